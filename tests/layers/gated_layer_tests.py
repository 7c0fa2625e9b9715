"""The tests that every gated layer gets, from its arguments alone."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from tests.testing import sigmoid
from tests.testing import train_steps

GATE_ARGUMENTS = {
    "l0": 0.1,
    "l2": 0.2,
    "granularity": "output",
    "droprate_init": 0.3,
    "sample_per": "example",
    "temperature": 0.5,
    "gamma": -0.2,
    "zeta": 1.3,
    "log_alpha_limit": 2.0,
    "seed": 9,
}


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


class GatedLayerTests:
    """Derive, set the attributes, and all tests below run on the layer.

    Attributes:
        layer_class: the gated layer.
        plain_class: the Keras layer it must equal.
        variants: pairs of the layer's arguments and an input shape.
        other_arguments: for each argument of the Keras layer, a value that is
            not its default.
        default_granularity: what the paper chose.
        granularities: all that the layer has.
        per_example: those of which each example can have its own gates.
        unused: the parts of names of weights without influence on the
            output of the first variant.

    A layer that is not called on one tensor of floats also says how it is
    called, in the helpers below.
    """

    layer_class = None
    plain_class = None
    variants = ()
    other_arguments = {}
    default_granularity = None
    granularities = ("input", "output", "weight")
    per_example = ("input", "output")
    unused = ()

    # === Helpers ===

    def inputs(self, shape, seed=0):
        return random(shape, seed)

    def symbolic(self, shape):
        return keras.Input(shape[1:])

    def build(self, layer, shape):
        layer.build(shape)

    def run(self, layer, inputs, **arguments):
        """The output of a call, as an array."""
        return numpy(layer(inputs, **arguments))

    def model(self, layer, shape):
        inputs = self.symbolic(shape)
        return keras.Model(inputs, layer(inputs))

    def is_baked(self, baked):
        return type(baked) is self.plain_class

    def plain_weights(self, layer):
        """The gated layer's weights that the plain one has, in its order."""
        return [w for w in layer.weights if w is not layer.gate.log_alpha]

    def set_plain_weights(self, layer, values):
        for weight, value in zip(
            self.plain_weights(layer), values, strict=True
        ):
            weight.assign(value)

    def make(self, variant, **arguments):
        """A built gated layer and the plain one of the same weights."""
        own, input_shape = variant
        # Free, so that log_alpha = +-100 makes even the samples certain.
        arguments = {"log_alpha_limit": None, **arguments}
        layer = self.layer_class(**own, **arguments)
        plain = self.plain_class(
            **own, dtype=arguments.get("dtype", keras.config.dtype_policy())
        )
        self.build(layer, input_shape)
        self.build(plain, input_shape)
        weights = [random(w.shape, i) for i, w in enumerate(plain.weights)]
        plain.set_weights(weights)
        self.set_plain_weights(layer, weights)
        return layer, plain

    def with_weights(self, plain, shape, weights, **changes):
        """A plain layer of the same arguments, but those, and weights."""
        config = {**plain.get_config(), **changes}
        layer = self.plain_class.from_config(config)
        self.build(layer, shape)
        layer.set_weights(weights)
        return layer

    def gate(self, plain, granularity, inputs, gates):
        """What the plain layer gives with gates, by the definition."""
        shape = [-1]
        if getattr(plain, "data_format", None) == "channels_first":
            shape += [1] * (inputs.ndim - 2)
        weights = plain.get_weights()
        if granularity == "input":
            return numpy(plain(inputs * gates.reshape(shape)))
        if granularity == "output":
            linear = self.with_weights(
                plain, inputs.shape, weights, activation=None
            )
            outputs = linear(inputs) * gates.reshape(shape)
            return numpy(plain.activation(outputs))
        kernel, *bias = weights
        gated = self.with_weights(plain, inputs.shape, [kernel * gates, *bias])
        return numpy(gated(inputs))

    def gate_of_each_weight(self, layer):
        """Which gate closes each weight, or -1, found by closing gates.

        Half of the gates at a time: the rounds in which a weight is zero
        are the bits of the number of its gate.
        """
        layer.set_weights([np.ones(w.shape, "float32") for w in layer.weights])
        shape = tuple(layer.gate.log_alpha.shape)
        numbers = np.arange(np.prod(shape)).reshape(shape)

        def zeros(closed):
            layer.gate.log_alpha.assign(np.where(closed, -100.0, 100.0))
            return [w == 0 for w in layer.bake().get_weights()]

        ever = zeros(numbers >= 0)
        found = [np.zeros(w.shape, int) for w in ever]
        for bit in range(int(numbers.size - 1).bit_length()):
            has = (numbers >> bit) % 2 == 1
            for gates, gated, one, other in zip(
                found, ever, zeros(has), zeros(~has), strict=True
            ):
                # No weight has two gates.
                np.testing.assert_array_equal(one ^ other, gated)
                gates += one << bit
        return [np.where(gated, gates, -1) for gated, gates in zip(ever, found)]

    # === The plain layer within ===

    def test_gates_do_what_they_are_said_to(self, variant, granularity):
        layer, plain = self.make(variant, granularity=granularity)
        inputs = self.inputs(variant[1], seed=5)
        shape = tuple(layer.gate.log_alpha.shape)
        # Open, they change nothing.
        expected = self.run(plain, inputs)
        layer.gate.log_alpha.assign(np.full(shape, 5.0))
        np.testing.assert_array_equal(self.run(layer, inputs), expected)
        layer.gate.log_alpha.assign(np.full(shape, 100.0))
        np.testing.assert_array_equal(
            self.run(layer, inputs, training=True), expected
        )
        # While training, where even samples are certain.
        gates = np.random.default_rng(3).integers(0, 2, shape)
        layer.gate.log_alpha.assign(np.where(gates, 100.0, -100.0))
        expected = self.gate(
            plain, granularity, inputs, gates.astype("float32")
        )
        outputs = self.run(layer, inputs, training=True)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
        # At test time, and baked.
        log_alpha = 2 * random(shape, seed=6)
        gates = np.clip(1.2 * sigmoid(log_alpha) - 0.1, 0, 1)
        layer.gate.log_alpha.assign(log_alpha)
        expected = self.gate(
            plain, granularity, inputs, gates.astype("float32")
        )
        outputs = self.run(layer, inputs)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
        baked = layer.bake()
        assert self.is_baked(baked)
        assert baked.name == layer.name
        np.testing.assert_allclose(
            self.run(baked, inputs), expected, rtol=1e-4, atol=1e-5
        )

    def test_gates_for_each_example(self, variant, per_example):
        layer, plain = self.make(
            variant, granularity=per_example, sample_per="example", seed=1
        )
        inputs = self.inputs(variant[1], seed=5)
        shape = tuple(layer.gate.log_alpha.shape)
        gates = np.random.default_rng(3).integers(0, 2, shape)
        layer.gate.log_alpha.assign(np.where(gates, 100.0, -100.0))
        expected = self.gate(
            plain, per_example, inputs, gates.astype("float32")
        )
        outputs = self.run(layer, inputs, training=True)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)

    # === Sampling ===

    @pytest.mark.singles
    def test_samples_while_training(self, variant, granularity):
        layer, _ = self.make(variant, granularity=granularity, seed=1)
        inputs = np.concatenate([self.inputs((1, *variant[1][1:]), 5)] * 3)
        first = self.run(layer, inputs, training=True)
        second = self.run(layer, inputs, training=True)
        # One sample for the batch, another one for the next.
        np.testing.assert_allclose(first[0], first[1], rtol=1e-5, atol=1e-6)
        assert np.abs(first - second).max() > 1e-3
        # None at test time, nor once it is frozen.
        at_test = self.run(layer, inputs)
        np.testing.assert_array_equal(self.run(layer, inputs), at_test)
        layer.gate.trainable = False
        np.testing.assert_array_equal(
            self.run(layer, inputs, training=True), at_test
        )
        if granularity not in self.per_example:
            return
        layer, _ = self.make(
            variant, granularity=granularity, seed=1, sample_per="example"
        )
        outputs = self.run(layer, inputs, training=True)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(outputs[a] - outputs[b]).max() > 1e-3

    def test_a_seed_fixes_start_and_samples(self):
        inputs = self.inputs(self.variants[0][1])

        def run(seed):
            layer, _ = self.make(self.variants[0], seed=seed)
            return [self.run(layer, inputs, training=True) for _ in range(2)]

        np.testing.assert_array_equal(run(3), run(3))
        assert (np.array(run(3)) != np.array(run(4))).any()

    def test_a_layer_frozen_before_building_does_not_sample(self):
        arguments, shape = self.variants[0]
        layer = self.layer_class(**arguments, trainable=False)
        inputs = self.inputs(shape)
        np.testing.assert_array_equal(
            self.run(layer, inputs, training=True), self.run(layer, inputs)
        )
        assert layer.trainable_variables == []

    # === The penalty ===

    def test_penalty_by_brute_force(self, variant, granularity):
        layer, plain = self.make(
            variant, granularity=granularity, l0=0.01, l2=0.3
        )
        gates = self.gate_of_each_weight(layer)
        shape = tuple(layer.gate.log_alpha.shape)
        sizes = sum(
            np.bincount(g[g >= 0], minlength=int(np.prod(shape))) for g in gates
        )
        assert set(sizes) == {layer.gate.group_size}
        weights = plain.get_weights()
        self.set_plain_weights(layer, weights)
        log_alpha = random(shape, seed=8)
        layer.gate.log_alpha.assign(log_alpha)
        prob = sigmoid(log_alpha.reshape(-1) + 2 / 3 * np.log(11))
        expected = 0.01 * np.sum(prob * sizes)
        for w, g in zip(weights, gates):
            # What no gate closes decays in full.
            share = np.where(g >= 0, prob[g], 1.0)
            expected += 0.15 * np.sum(share * w.astype(float) ** 2)
        (loss,) = layer.losses
        assert float(loss) == pytest.approx(expected, rel=1e-4)

    def test_penalty_reaches_the_model(self, granularity):
        arguments, shape = self.variants[0]
        layer = self.layer_class(
            **arguments, granularity=granularity, l0=100.0, seed=1
        )
        model = self.model(layer, shape)
        (loss,) = model.losses
        prob = layer.gate.prob_open()
        expected = 100.0 * layer.gate.group_size * prob.sum()
        assert float(loss) == pytest.approx(expected, rel=1e-4)

    def test_penalty_reaches_the_gradient(self):
        arguments, shape = self.variants[0]
        layer = self.layer_class(**arguments, l0=100.0, seed=1)
        model = self.model(layer, shape)
        before = numpy(layer.gate.log_alpha)
        inputs = self.inputs(shape)
        targets = np.zeros((shape[0], *model.output_shape[1:]), "float32")
        assert train_steps(model, inputs, targets, 2) > 1.0
        assert (numpy(layer.gate.log_alpha) < before).all()

    # === Keras ===

    def test_dtype_policies(self, policy, granularity, sample_per):
        variant = self.variants[0]
        layer, plain = self.make(
            variant,
            granularity=granularity,
            sample_per=sample_per,
            dtype=policy,
            l0=0.1,
            l2=0.1,
        )
        inputs = ops.convert_to_tensor(self.inputs(variant[1]))
        if keras.backend.is_float_dtype(inputs.dtype):
            inputs = ops.cast(inputs, layer.compute_dtype)
        dtype = keras.backend.standardize_dtype
        outputs = self.run(layer, inputs, training=True)
        assert dtype(outputs.dtype) == layer.compute_dtype
        for weight in self.plain_weights(layer):
            assert dtype(weight.dtype) == layer.variable_dtype
        assert dtype(layer.gate.log_alpha.dtype) == "float32"
        assert dtype(layer.losses[0].dtype) == "float32"
        layer.gate.log_alpha.assign(np.full(layer.gate.log_alpha.shape, 100.0))
        expected = self.run(plain, inputs)
        np.testing.assert_array_equal(self.run(layer, inputs), expected)
        np.testing.assert_array_equal(self.run(layer.bake(), inputs), expected)

    @pytest.mark.parametrize(
        "policy",
        [
            "mixed_float16",
            pytest.param("mixed_bfloat16", marks=pytest.mark.slow),
        ],
    )
    def test_trains_in_mixed_precision(self, policy):
        arguments, shape = self.variants[0]
        layer = self.layer_class(**arguments, l0=0.1, dtype=policy)
        model = self.model(layer, shape)
        before = [numpy(v) for v in layer.trainable_variables]
        targets = np.ones((shape[0], *model.output_shape[1:]), "float32")
        inputs = self.inputs(shape)
        loss = train_steps(model, inputs, targets, 2, optimizer="adam")
        assert np.isfinite(loss)
        for old, new in zip(before, layer.trainable_variables):
            assert np.isfinite(numpy(new)).all()
            used = not any(part in new.path for part in self.unused)
            assert not used or (numpy(new) != old).any(), new.path

    def test_config_keeps_all_arguments(self):
        arguments = {**self.other_arguments, **GATE_ARGUMENTS}
        arguments["granularity"] = self.per_example[-1]
        signature = set(inspect.signature(self.plain_class).parameters)
        assert signature - {"kwargs"} <= set(arguments)
        layer = self.layer_class(**arguments, name="mine")
        config = layer.get_config()
        plain_config = self.plain_class(**self.other_arguments).get_config()
        for name, value in plain_config.items():
            assert name == "name" or config[name] == value, name
        for name in GATE_ARGUMENTS:
            value = arguments[name]
            assert config[name] == value, name
        again = self.layer_class.from_config(config)
        assert again.get_config() == config

    def test_saves_and_loads(self, granularity, tmp_path):
        arguments, shape = self.variants[0]
        layer = self.layer_class(
            **arguments, granularity=granularity, l0=0.1, l2=0.2
        )
        model = self.model(layer, shape)
        inputs = self.inputs(shape)
        if granularity == self.default_granularity:
            # With an optimizer.
            targets = np.ones((shape[0], *model.output_shape[1:]), "float32")
            train_steps(model, inputs, targets, 2)
        layer.gate.log_alpha.assign(random(layer.gate.log_alpha.shape))
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        loaded = again.get_layer(layer.name)
        assert loaded.get_config() == layer.get_config()
        np.testing.assert_array_equal(
            loaded.gate.log_alpha, layer.gate.log_alpha
        )
        np.testing.assert_array_equal(
            numpy(again(inputs)), numpy(model(inputs))
        )
        # The decay of the weights is coupled again too.
        assert float(again.losses[0]) == float(model.losses[0])

    def test_bakes_a_frozen_layer_frozen(self):
        layer, _ = self.make(self.variants[0])
        assert layer.bake().trainable
        layer.trainable = False
        assert not layer.bake().trainable

    def test_default_granularity(self):
        arguments, _ = self.variants[0]
        layer = self.layer_class(**arguments)
        assert layer.granularity == self.default_granularity
        assert layer.get_config()["granularity"] == self.default_granularity

    @pytest.mark.parametrize(
        "name, value",
        [
            ("l0", -0.1),
            ("l2", -0.1),
            ("granularity", "filter"),
            ("droprate_init", 1.0),
            ("sample_per", "step"),
            ("temperature", 0.0),
            ("gamma", 0.1),
            ("zeta", 0.5),
            ("log_alpha_limit", 0.0),
        ],
    )
    def test_refuses_bad_arguments(self, name, value):
        arguments, _ = self.variants[0]
        with pytest.raises(ValueError, match=rf"`{name}`.*Received: {name}="):
            self.layer_class(**arguments, **{name: value})

    def test_refuses_the_granularities_it_lacks(self):
        arguments, _ = self.variants[0]
        for granularity in {"input", "output", "weight", "head"}:
            if granularity in self.granularities:
                continue
            message = f"`granularity` must be one of .*{self.granularities[0]}"
            with pytest.raises(ValueError, match=message):
                self.layer_class(**arguments, granularity=granularity)

    def test_refuses_a_sample_of_each_weight_for_each_example(self):
        arguments, _ = self.variants[0]
        if "weight" not in self.granularities:
            pytest.skip("the layer has no gates on single weights")
        with pytest.raises(ValueError, match="`sample_per`.*weight"):
            self.layer_class(
                **arguments, granularity="weight", sample_per="example"
            )

    def test_refuses_lora(self):
        if "lora_rank" not in self.other_arguments:
            pytest.skip("the Keras layer has no LoRA")
        arguments, _ = self.variants[0]
        with pytest.raises(ValueError, match="`lora_rank`.*lora_rank=2"):
            self.layer_class(**arguments, lora_rank=2)
