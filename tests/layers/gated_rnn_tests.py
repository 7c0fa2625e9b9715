"""The tests that every gated recurrent layer gets besides the shared ones."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.layers.gated_layer_tests import GatedLayerTests
from tests.layers.gated_layer_tests import numpy
from tests.layers.gated_layer_tests import random
from tests.testing import train_steps


class Stop(Exception):
    """What a test stops a call with."""


def arrays(outputs):
    return [numpy(tensor) for tensor in keras.tree.flatten(outputs)]


class RecurrentTests(GatedLayerTests):
    """Derive, and set what `GatedLayerTests` asks for."""

    default_granularity = "output"
    granularities = ("output",)
    per_example = ("output",)

    def is_baked(self, baked):
        assert isinstance(baked, keras.Sequential)
        plain, gates = baked.layers
        assert plain.name == baked.name
        assert gates.name == f"{baked.name}_gates"
        assert type(gates) is keras.layers.Rescaling
        return type(plain) is self.plain_class

    def scaled(self, plain, shape, gates):
        """The plain layer with gates on the rows of its recurrent kernel."""
        kernel, recurrent_kernel, *bias = plain.get_weights()
        weights = [kernel, recurrent_kernel * gates[:, None], *bias]
        return self.with_weights(plain, shape, weights)

    def gate(self, plain, granularity, inputs, gates):
        return numpy(self.scaled(plain, inputs.shape, gates)(inputs)) * gates


class GatedRNNTests(RecurrentTests):
    """Also set `states`; for layers of units on sequences of vectors."""

    # How many state tensors the layer has.
    states = None
    # The values of an argument of that name.
    implementations = ()

    def pair(self, gates=None, shape=(4, 6, 3), **arguments):
        """A gated layer with test gates, and the plain one scaled by them."""
        layer, plain = self.make(({"units": 5, **arguments}, shape), seed=3)
        log_alpha = 3 * random((5,), seed=6)
        log_alpha[1] = -100.0
        layer.gate.log_alpha.assign(log_alpha)
        gates = layer.gate.test_gates()
        assert gates[1] == 0 and ((gates > 0) & (gates < 1)).any()
        return layer, self.scaled(plain, shape, gates), gates

    # === What the plain layer can do ===

    @pytest.mark.parametrize("return_sequences", [False, True])
    def test_returns_the_gated_state(self, return_sequences):
        layer, plain, gates = self.pair(
            return_state=True, return_sequences=return_sequences
        )
        inputs = random((4, 6, 3))
        expected = [output * gates for output in arrays(plain(inputs))]
        outputs = arrays(layer(inputs))
        assert len(outputs) == 1 + self.states
        for output, value in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, value, rtol=1e-4, atol=1e-6)
        baked = layer.bake()
        assert isinstance(baked, keras.Model) and baked.name == layer.name
        assert type(baked.get_layer(layer.name)) is self.plain_class
        for output, value in zip(arrays(baked(inputs)), expected, strict=True):
            np.testing.assert_allclose(output, value, rtol=1e-4, atol=1e-6)
        # What one gate closes, with the state to see.
        layer.set_weights([np.ones(w.shape) for w in layer.weights])
        layer.gate.log_alpha.assign([100.0, 100.0, -100.0, 100.0, 100.0])
        closed = sum(int((w == 0).sum()) for w in layer.bake().get_weights())
        assert closed == layer.gate.group_size

    def test_starts_from_an_initial_state(self):
        layer, plain, gates = self.pair(return_sequences=True)
        inputs = random((4, 6, 3))
        state = [random((4, 5), seed=i) for i in range(self.states)]
        expected = numpy(plain(inputs, initial_state=state)) * gates
        outputs = layer(inputs, initial_state=state)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)
        # In a functional model too.
        symbolic = [keras.Input((5,)) for _ in state]
        x = keras.Input((None, 3))
        model = keras.Model([x, *symbolic], layer(x, initial_state=symbolic))
        np.testing.assert_allclose(
            model([inputs, *state]), expected, rtol=1e-4, atol=1e-6
        )

    def test_remembers_its_state(self):
        layer, plain, gates = self.pair(stateful=True)
        baked = layer.bake()
        for seed in range(3):
            inputs = random((4, 6, 3), seed)
            expected = numpy(plain(inputs)) * gates
            np.testing.assert_allclose(
                layer(inputs), expected, rtol=1e-4, atol=1e-6
            )
            np.testing.assert_allclose(
                baked(inputs), expected, rtol=1e-4, atol=1e-6
            )
        layer.reset_state()
        plain.reset_state()
        np.testing.assert_allclose(
            layer(inputs), numpy(plain(inputs)) * gates, rtol=1e-4, atol=1e-6
        )

    # Keras warns that the model as a whole does not say it supports masks,
    # but its layers do.
    @pytest.mark.filterwarnings("ignore:Layer .*of type Sequential")
    @pytest.mark.parametrize("return_sequences", [False, True])
    @pytest.mark.parametrize("zero_output_for_mask", [False, True])
    def test_sees_masks(self, return_sequences, zero_output_for_mask):
        layer, plain, gates = self.pair(
            return_sequences=return_sequences,
            zero_output_for_mask=zero_output_for_mask,
        )
        inputs = random((4, 6, 3))
        mask = np.random.default_rng(2).integers(0, 2, (4, 6)).astype(bool)
        expected = numpy(plain(inputs, mask=mask)) * gates
        assert np.abs(expected - numpy(plain(inputs)) * gates).max() > 1e-3
        for gated in (layer, layer.bake()):
            outputs = gated(inputs, mask=mask)
            np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.filterwarnings("ignore:Layer .*of type Sequential")
    def test_passes_masks_on(self):
        ids = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
        embedding = keras.layers.Embedding(5, 3, mask_zero=True)
        layer, _, _ = self.pair(return_sequences=True)
        for gated in (layer, layer.bake()):
            outputs = gated(embedding(ids))
            np.testing.assert_array_equal(outputs._keras_mask, ids != 0)

    @pytest.mark.parametrize("sample_per", ["batch", "example"])
    @pytest.mark.parametrize("implementation", [1, 2])
    def test_drops_out_what_the_plain_layer_does(
        self, implementation, sample_per
    ):
        arguments = {"units": 5, "dropout": 0.4}
        if self.implementations:
            arguments["implementation"] = implementation
        if implementation == 1:
            arguments["recurrent_dropout"] = 0.4
        shape = (4, 6, 3)
        inputs = random(shape)

        def run(layer):
            return numpy(layer(inputs, training=True))

        gates = np.array([1, 0, 1, 1, 0], "float32")
        layer = self.layer_class(
            **arguments, seed=3, sample_per=sample_per, log_alpha_limit=None
        )
        plain = self.plain_class(**arguments, seed=3)
        for each in (layer, plain):
            each.build(shape)
        weights = [random(w.shape, i) for i, w in enumerate(plain.weights)]
        self.set_plain_weights(layer, weights)
        layer.gate.log_alpha.assign(np.where(gates, 100.0, -100.0))
        weights[1] *= gates[:, None]
        plain.set_weights(weights)
        for _ in range(2):
            np.testing.assert_allclose(
                run(layer), run(plain) * gates, rtol=1e-4, atol=1e-6
            )
        assert np.abs(run(layer) - numpy(layer(inputs))).max() > 1e-3

    def test_gates_do_not_draw_the_noise_of_dropout(self):
        layer = self.layer_class(64, dropout=0.5, seed=3)
        layer.build((1, 2, 64))
        layer.gate.log_alpha.assign(np.zeros(64))
        sample = numpy(layer.gate.values(training=True))
        mask = layer.cell.get_dropout_mask(np.ones((1, 64), "float32"))
        layer.cell.reset_dropout_mask()
        correlation = np.corrcoef(sample, numpy(mask)[0] > 0)[0, 1]
        assert abs(correlation) < 0.5

    # === Samples ===

    def test_all_steps_have_the_same_gates(self):
        layer, plain = self.make(
            ({"units": 5, "return_sequences": True}, (3, 6, 3)),
            sample_per="example",
            seed=1,
        )
        # With no way through the recurrent kernel, the gates can be read off.
        kernel, recurrent_kernel, *bias = plain.get_weights()
        weights = [kernel, 0 * recurrent_kernel, *bias]
        self.set_plain_weights(layer, weights)
        inputs = random((3, 6, 3))
        plain.set_weights(weights)
        gated = numpy(layer(inputs, training=True))
        ungated = numpy(plain(inputs))
        # From the largest output of each unit: small ones are mostly rounding.
        largest = np.abs(ungated).argmax(axis=1)[:, None]
        gates = np.take_along_axis(gated, largest, 1)
        gates = gates / np.take_along_axis(ungated, largest, 1)
        np.testing.assert_allclose(gated, gates * ungated, rtol=0, atol=1e-6)
        assert np.abs(gates[0] - gates[1]).max() > 1e-2

    def test_gates_for_each_example_are_those_of_the_batch(self):
        arguments = {"units": 5, "return_sequences": True}
        layer, plain = self.make(
            (arguments, (3, 6, 3)), sample_per="example", seed=1
        )
        inputs = random((3, 6, 3))
        gates = np.random.default_rng(5).uniform(0, 1, (3, 5))
        gates = gates.astype("float32")
        layer.gate.values = lambda training, size: ops.convert_to_tensor(gates)
        outputs = numpy(layer(inputs, training=True))
        for example in range(3):
            expected = self.gate(
                plain, "output", inputs[example : example + 1], gates[example]
            )
            np.testing.assert_allclose(
                outputs[example], expected[0], rtol=1e-4, atol=1e-6
            )

    def test_an_error_leaves_no_gates_behind(self, monkeypatch):
        layer, _, _ = self.pair()

        def inner_loop(*args, **kwargs):
            assert layer.cell.has_gated_kernel
            raise Stop

        # Keras calls the cell in it, or fused code that goes around the cell.
        monkeypatch.setattr(layer, "inner_loop", inner_loop)
        with pytest.raises(Stop):
            layer(random((4, 6, 3)))
        assert layer.cell.recurrent_kernel is layer.cell._recurrent_kernel
        assert not layer.cell.has_gated_kernel

    # === Keras ===

    @pytest.mark.parametrize("sample_per", ["batch", "example"])
    def test_bidirectional(self, sample_per, tmp_path):
        gated = self.layer_class(
            5, return_sequences=True, sample_per=sample_per, l0=0.1
        )
        inputs = keras.Input((6, 3))
        layer = keras.layers.Bidirectional(gated)
        model = keras.Model(inputs, layer(inputs))
        forward, backward = layer.forward_layer, layer.backward_layer
        assert type(forward) is type(backward) is self.layer_class
        assert len(model.losses) == 2
        x = random((4, 6, 3))
        train_steps(model, x, np.zeros((4, 6, 10), "float32"), 2)
        for log_alpha, direction in ((0.5, forward), (-0.5, backward)):
            direction.gate.log_alpha.assign(np.full(5, log_alpha))
        expected = []
        for direction in (forward, backward):
            plain = direction.bake()
            # As `Bidirectional` wants it.
            plain.layers[0].zero_output_for_mask = True
            expected.append(numpy(plain(x)))
        expected = np.concatenate([expected[0], expected[1][:, ::-1]], axis=-1)
        outputs = model.predict(x, verbose=0)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)
        # Fused code for both directions would go around the gates.
        assert layer.forward_layer.use_cudnn is False
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again.predict(x, verbose=0), outputs)

    def test_saves_and_loads_baked(self, tmp_path):
        layer, plain, gates = self.pair(return_sequences=True)
        inputs = random((4, 6, 3))
        expected = numpy(plain(inputs)) * gates
        layer.bake().save(tmp_path / "baked.keras")
        again = keras.models.load_model(tmp_path / "baked.keras")
        np.testing.assert_allclose(
            again(inputs), expected, rtol=1e-4, atol=1e-6
        )

    def test_jit(self):
        layer, plain, gates = self.pair(return_sequences=True)
        inputs = random((4, 6, 3))
        expected = numpy(plain(inputs)) * gates
        if keras.backend.backend() == "jax":
            import jax

            variables = [w.value for w in layer.trainable_variables]
            others = [w.value for w in layer.non_trainable_variables]
            outputs = jax.jit(lambda v, o, x: layer.stateless_call(v, o, x)[0])(
                variables, others, inputs
            )
        else:
            import tensorflow as tf

            outputs = tf.function(layer, jit_compile=True)(inputs)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)
        # Nothing of the trace is left in the layer.
        np.testing.assert_allclose(
            layer(inputs), expected, rtol=1e-4, atol=1e-6
        )


class FusedRNNTests(GatedRNNTests):
    """Of those layers that have fused code, and two implementations."""

    implementations = (1, 2)

    def test_cudnn_is_for_gated_kernels_only(self):
        inputs = random((4, 6, 3))
        for sample_per, training, fused in (
            ("batch", False, "auto"),
            ("batch", True, "auto"),
            ("example", False, "auto"),
            ("example", True, False),
        ):
            layer = self.layer_class(5, sample_per=sample_per)
            seen = []
            loop = layer.inner_loop

            def inner_loop(*args, **kwargs):
                seen.append(layer.use_cudnn)
                return loop(*args, **kwargs)

            layer.inner_loop = inner_loop
            layer(inputs, training=training)
            assert seen == [fused]
        layer = self.layer_class(5, use_cudnn=False)
        assert layer.bake is not None and layer._use_cudnn is False

    def test_bakes_what_keras_keeps_out_of_configs(self):
        layer = self.layer_class(5, use_cudnn=False, implementation=1)
        layer.build((None, 6, 3))
        plain, _ = layer.bake().layers
        assert plain.use_cudnn is False
        assert plain.cell.implementation == 1
        # And it takes other numbers of steps than it was built with.
        assert layer.bake()(random((2, 9, 3))).shape == (2, 5)
