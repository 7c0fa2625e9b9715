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
    """

    layer_class = None
    plain_class = None
    variants = ()
    other_arguments = {}
    default_granularity = None

    # === Helpers ===

    def make(self, variant, **arguments):
        """A built gated layer and the plain one of the same weights."""
        own, input_shape = variant
        # Free, so that log_alpha = +-100 makes even the samples certain.
        arguments = {"log_alpha_limit": None, **arguments}
        layer = self.layer_class(**own, **arguments)
        plain = self.plain_class(
            **own, dtype=arguments.get("dtype", keras.config.dtype_policy())
        )
        layer.build(input_shape)
        plain.build(input_shape)
        weights = [random(w.shape, i) for i, w in enumerate(plain.weights)]
        plain.set_weights(weights)
        layer.kernel.assign(weights[0])
        if layer.use_bias:
            layer.bias.assign(weights[1])
        return layer, plain

    def gate(self, plain, granularity, inputs, gates):
        """What the plain layer gives with gates, by the definition."""
        channels_first = getattr(plain, "data_format", None) == "channels_first"
        shape = [1] * inputs.ndim
        shape[1 if channels_first else -1] = -1
        if granularity == "input":
            return numpy(plain(inputs * gates.reshape(shape)))
        if granularity == "output":
            config = {**plain.get_config(), "activation": None}
            linear = self.plain_class.from_config(config)
            linear.build(inputs.shape)
            linear.set_weights(plain.get_weights())
            outputs = linear(inputs) * gates.reshape(shape)
            return numpy(plain.activation(outputs))
        kernel, *bias = plain.get_weights()
        closed = self.plain_class.from_config(plain.get_config())
        closed.build(inputs.shape)
        closed.set_weights([kernel * gates, *bias])
        return numpy(closed(inputs))

    def weights_of_each_gate(self, layer):
        """Which weights become 0 as each gate closes, found by closing it."""
        layer.set_weights([np.ones(w.shape, "float32") for w in layer.weights])
        shape = tuple(layer.gate.log_alpha.shape)
        closed = []
        for gate in range(int(np.prod(shape))):
            log_alpha = np.full(np.prod(shape), 100.0)
            log_alpha[gate] = -100.0
            layer.gate.log_alpha.assign(log_alpha.reshape(shape))
            closed.append([w == 0 for w in layer.bake().get_weights()])
        return closed

    # === The plain layer within ===

    def test_equals_the_plain_layer_with_open_gates(self, variant, granularity):
        layer, plain = self.make(variant, granularity=granularity)
        inputs = random(variant[1], seed=5)
        shape = layer.gate.log_alpha.shape
        layer.gate.log_alpha.assign(np.full(shape, 5.0))
        np.testing.assert_array_equal(layer(inputs), plain(inputs))
        layer.gate.log_alpha.assign(np.full(shape, 100.0))
        np.testing.assert_array_equal(
            layer(inputs, training=True), plain(inputs)
        )

    @pytest.mark.parametrize("training", [False, True])
    def test_gates_do_what_they_are_said_to(
        self, variant, granularity, training
    ):
        layer, plain = self.make(variant, granularity=granularity)
        inputs = random(variant[1], seed=5)
        shape = tuple(layer.gate.log_alpha.shape)
        if training:
            gates = np.random.default_rng(3).integers(0, 2, shape)
            log_alpha = np.where(gates, 100.0, -100.0)
        else:
            log_alpha = 2 * random(shape, seed=6)
            gates = np.clip(1.2 * sigmoid(log_alpha) - 0.1, 0, 1)
        layer.gate.log_alpha.assign(log_alpha)
        expected = self.gate(
            plain, granularity, inputs, gates.astype("float32")
        )
        outputs = layer(inputs, training=training)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
        if not training:
            baked = layer.bake()
            assert type(baked) is self.plain_class
            assert baked.name == layer.name
            np.testing.assert_allclose(
                baked(inputs), expected, rtol=1e-4, atol=1e-5
            )

    @pytest.mark.parametrize("per_example", ["input", "output"])
    def test_gates_for_each_example(self, variant, per_example):
        layer, plain = self.make(
            variant, granularity=per_example, sample_per="example", seed=1
        )
        inputs = random(variant[1], seed=5)
        shape = tuple(layer.gate.log_alpha.shape)
        gates = np.random.default_rng(3).integers(0, 2, shape)
        layer.gate.log_alpha.assign(np.where(gates, 100.0, -100.0))
        expected = self.gate(
            plain, per_example, inputs, gates.astype("float32")
        )
        outputs = layer(inputs, training=True)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)

    # === Sampling ===

    def test_samples_while_training(self, variant, granularity):
        layer, _ = self.make(variant, granularity=granularity, seed=1)
        inputs = np.concatenate([random((1, *variant[1][1:]), seed=5)] * 3)
        first = numpy(layer(inputs, training=True))
        second = numpy(layer(inputs, training=True))
        # One sample for the batch, another one for the next.
        np.testing.assert_allclose(first[0], first[1], rtol=1e-5, atol=1e-6)
        assert np.abs(first - second).max() > 1e-3
        # None at test time, nor once it is frozen.
        np.testing.assert_array_equal(layer(inputs), layer(inputs))
        layer.gate.trainable = False
        np.testing.assert_array_equal(
            layer(inputs, training=True), layer(inputs)
        )
        if granularity == "weight":
            return
        layer, _ = self.make(
            variant, granularity=granularity, seed=1, sample_per="example"
        )
        outputs = numpy(layer(inputs, training=True))
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(outputs[a] - outputs[b]).max() > 1e-3

    def test_a_seed_fixes_start_and_samples(self):
        inputs = random(self.variants[0][1])

        def run(seed):
            layer, _ = self.make(self.variants[0], seed=seed)
            return [numpy(layer(inputs, training=True)) for _ in range(2)]

        np.testing.assert_array_equal(run(3), run(3))
        assert (np.array(run(3)) != np.array(run(4))).any()

    def test_a_layer_frozen_before_building_does_not_sample(self):
        arguments, shape = self.variants[0]
        layer = self.layer_class(**arguments, trainable=False)
        inputs = random(shape)
        np.testing.assert_array_equal(
            layer(inputs, training=True), layer(inputs)
        )
        assert layer.trainable_variables == []

    # === The penalty ===

    def test_group_size_counts_the_weights_of_a_gate(
        self, variant, granularity
    ):
        layer, _ = self.make(variant, granularity=granularity)
        sizes = [
            sum(int(zeros.sum()) for zeros in weights)
            for weights in self.weights_of_each_gate(layer)
        ]
        assert sizes == [layer.gate.group_size] * len(sizes)

    def test_penalty_by_brute_force(self, variant, granularity):
        layer, plain = self.make(
            variant, granularity=granularity, l0=0.01, l2=0.3
        )
        closed = self.weights_of_each_gate(layer)
        weights = plain.get_weights()
        layer.kernel.assign(weights[0])
        if layer.use_bias:
            layer.bias.assign(weights[1])
        shape = tuple(layer.gate.log_alpha.shape)
        log_alpha = random(shape, seed=8)
        layer.gate.log_alpha.assign(log_alpha)
        prob = sigmoid(log_alpha.reshape(-1) + 2 / 3 * np.log(11))
        expected = 0.0
        decayed = [np.zeros(w.shape, bool) for w in weights]
        for p, zeros in zip(prob, closed):
            for w, zero, seen in zip(weights, zeros, decayed):
                expected += p * (0.01 + 0.15 * w[zero].astype(float) ** 2).sum()
                assert not (seen & zero).any()
                seen |= zero
        # What no gate closes decays in full.
        for w, seen in zip(weights, decayed):
            expected += 0.15 * np.sum(w[~seen].astype(float) ** 2)
        (loss,) = layer.losses
        assert float(loss) == pytest.approx(expected, rel=1e-4)

    def test_penalty_reaches_the_model_and_the_gradient(self, granularity):
        arguments, shape = self.variants[0]
        layer = self.layer_class(
            **arguments, granularity=granularity, l0=100.0, seed=1
        )
        model = keras.Sequential([keras.Input(shape[1:]), layer])
        (loss,) = model.losses
        prob = layer.gate.prob_open()
        expected = 100.0 * layer.gate.group_size * prob.sum()
        assert float(loss) == pytest.approx(expected, rel=1e-4)
        before = numpy(layer.gate.log_alpha)
        inputs = random(shape)
        targets = np.zeros(model.compute_output_shape(shape), "float32")
        assert train_steps(model, inputs, targets, 2) > 1.0
        assert (numpy(layer.gate.log_alpha) < before).all()

    # === Keras ===

    @pytest.mark.parametrize(
        "policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float64"]
    )
    def test_dtype_policies(self, policy, granularity):
        variant = self.variants[0]
        for sample_per in ("batch", "example"):
            if (granularity, sample_per) == ("weight", "example"):
                continue
            if keras.backend.backend() == "jax" and policy == "float64":
                # JAX computes in float32 unless its process is told not to.
                continue
            layer, plain = self.make(
                variant,
                granularity=granularity,
                sample_per=sample_per,
                dtype=policy,
                l0=0.1,
                l2=0.1,
            )
            inputs = ops.convert_to_tensor(
                random(variant[1]), dtype=layer.compute_dtype
            )
            dtype = keras.backend.standardize_dtype
            outputs = layer(inputs, training=True)
            assert dtype(outputs.dtype) == layer.compute_dtype
            assert dtype(layer.kernel.dtype) == layer.variable_dtype
            assert dtype(layer.gate.log_alpha.dtype) == "float32"
            assert dtype(layer.losses[0].dtype) == "float32"
            layer.gate.log_alpha.assign(
                np.full(layer.gate.log_alpha.shape, 100.0)
            )
            expected = plain(inputs)
            np.testing.assert_array_equal(layer(inputs), expected)
            np.testing.assert_array_equal(layer.bake()(inputs), expected)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    def test_trains_in_mixed_precision(self, policy, granularity):
        arguments, shape = self.variants[0]
        layer = self.layer_class(
            **arguments, granularity=granularity, l0=0.1, dtype=policy
        )
        model = keras.Sequential([keras.Input(shape[1:]), layer])
        before = [numpy(v) for v in layer.trainable_variables]
        targets = np.ones(model.compute_output_shape(shape), "float32")
        loss = train_steps(model, random(shape), targets, 2, optimizer="adam")
        assert np.isfinite(loss)
        for old, new in zip(before, layer.trainable_variables):
            assert np.isfinite(numpy(new)).all()
            assert (numpy(new) != old).any()

    def test_config_keeps_all_arguments(self):
        arguments = {**self.other_arguments, **GATE_ARGUMENTS}
        signature = set(inspect.signature(self.plain_class).parameters)
        assert signature - {"kwargs"} <= set(arguments)
        layer = self.layer_class(**arguments, name="mine")
        config = layer.get_config()
        plain_config = self.plain_class(**self.other_arguments).get_config()
        for name, value in plain_config.items():
            assert name == "name" or config[name] == value, name
        for name, value in GATE_ARGUMENTS.items():
            assert config[name] == value, name
        again = self.layer_class.from_config(config)
        assert again.get_config() == config

    def test_saves_and_loads(self, granularity, tmp_path):
        arguments, shape = self.variants[0]
        model = keras.Sequential(
            [
                keras.Input(shape[1:]),
                self.layer_class(
                    **arguments, granularity=granularity, l0=0.1, l2=0.2
                ),
            ]
        )
        (layer,) = model.layers
        inputs = random(shape)
        targets = np.ones(model.compute_output_shape(shape), "float32")
        train_steps(model, inputs, targets, 2)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert again.layers[0].get_config() == layer.get_config()
        np.testing.assert_array_equal(
            again.layers[0].gate.log_alpha, layer.gate.log_alpha
        )
        np.testing.assert_array_equal(
            again.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
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

    def test_refuses_a_sample_of_each_weight_for_each_example(self):
        arguments, _ = self.variants[0]
        with pytest.raises(ValueError, match="`sample_per`.*weight"):
            self.layer_class(
                **arguments, granularity="weight", sample_per="example"
            )
