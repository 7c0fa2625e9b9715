import logging
import random

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.graph.rules.linear import Linear
from l0keras.graph.trace import trace
from l0keras.proof import verify
from l0keras.proof.inputs import Inputs

to_numpy = keras.ops.convert_to_numpy


def both(model, **arguments):
    gated = l0keras.sparsify(model, seed=0, **arguments)
    for gate in l0keras.gates_of(gated):
        closed = np.arange(gate.log_alpha.shape[0]) % 2
        gate.log_alpha.assign(np.where(closed, -8.0, 0.5))
    return l0keras.strip(gated)


def changed(model, name, weight=0, by=0.01):
    """A copy with an entry of a layer's weight that is off."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    variable = copy.get_layer(name).weights[weight]
    array = to_numpy(variable).copy()
    array.flat[0] += by
    variable.assign(array)
    return copy


def two_branches():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="a")(inputs)
    y = layers.Conv2D(6, 3, padding="same", activation="relu", name="b")(inputs)
    z = layers.Add(name="add")([x, y])
    z = layers.Conv2D(5, 3, activation="relu", name="c")(z)
    return keras.Model(
        inputs, layers.Dense(4, name="d")(layers.GlobalMaxPooling2D()(z))
    )


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_first_layer_that_differs_is_named(name):
    model = two_branches()
    with pytest.raises(RuntimeError, match=rf"differs is '{name}' \("):
        verify(model, changed(model, name), "sparsify")


def test_equal_models_pass(caplog):
    model = two_branches()
    verify(model, changed(model, "a", by=0.0), "strip")
    verify(model, changed(model, "a", by=1e-7), "strip")
    assert not caplog.records


@pytest.mark.parametrize("name", ["a", "c", "d"])
def test_strip_names_a_layer_that_is_cut_wrongly(monkeypatch, name):
    shrink = Linear.shrink

    def wrong(self, node):
        changes, weights = shrink(self, node)
        if node.name == name:
            weights["kernel"] = weights["kernel"][..., ::-1, :].copy()
        return changes, weights

    model = two_branches()
    monkeypatch.setattr(Linear, "shrink", wrong)
    with pytest.raises(RuntimeError) as raised:
        both(model)
    assert "`strip` made a model that differs" in str(raised.value)
    assert f"differs is '{name}' (" in str(raised.value)
    assert "check=False" in str(raised.value)


def test_sparsify_names_a_layer_whose_copy_is_wrong_or_returns_it(monkeypatch):
    from l0keras.placement.sparsifier import Sparsifier

    copied = Sparsifier.copied

    def wrong(self, node):
        layer = copied(self, node)
        if node.name == "b":
            layer.kernel.assign(layer.kernel * 1.01)
        return layer

    model = two_branches()
    monkeypatch.setattr(Sparsifier, "copied", wrong)
    with pytest.raises(RuntimeError, match=r"`sparsify`.* is 'b' \(Conv2D\)"):
        l0keras.sparsify(model)
    gated = l0keras.sparsify(model, check=False)
    assert l0keras.strip(gated, check=False).name == model.name


def test_layers_inside_of_nested_models_are_named():
    inputs = keras.Input((6,))
    x = layers.Dense(5, name="one")(inputs)
    inner = keras.Model(inputs, layers.Dense(4, name="two")(x), name="inner")
    outer = keras.Input((6,))
    model = keras.Model(outer, layers.Dense(3, name="three")(inner(outer)))
    result = l0keras.strip(model)
    (name,) = [x.name for x in result.layers if x.name.endswith("two")]
    result.get_layer(name).bias.assign_add([0.1, 0.0, 0.0, 0.0])
    with pytest.raises(RuntimeError, match=f"'{name}'"):
        verify(model, result, "strip")


@pytest.mark.parametrize("droprate", [0.05, 0.99])
@pytest.mark.parametrize("dependence", [None, "forward"])
def test_gates_may_start_closed(droprate, dependence):
    model = two_branches()
    gated = l0keras.sparsify(
        model, droprate_init=droprate, dependence=dependence, seed=0
    )
    gates = l0keras.gates_of(gated)
    opened = sum(gate.count_open() for gate in gates)
    assert opened < 17 if droprate == 0.99 else opened
    assert all(gate.held is None for gate in gates)


def test_gates_that_the_model_had_are_not_opened():
    inputs = keras.Input((8,))
    x = layers.Dense(16)(inputs)
    x = l0keras.HardConcreteGate(name="own")(x)
    model = keras.Model(inputs, layers.Dense(4)(layers.Dense(8)(x)))
    gated = l0keras.sparsify(model)
    gated.get_layer("own").log_alpha.assign(np.full(16, -9.0))
    with pytest.raises(RuntimeError, match="'own'"):
        verify(model, gated, "sparsify")


# === Outputs ===


def test_all_outputs_are_compared():
    inputs = {"x": keras.Input((6,), name="x")}
    x = layers.Dense(8, name="trunk")(inputs["x"])
    heads = [layers.Dense(3, name=f"head{i}")(x) for i in range(3)]
    nested = {"a": heads[0], "b": [heads[1], {"c": heads[2]}]}
    for outputs in (heads, nested):
        model = keras.Model(inputs, outputs)
        both(model)
        for i in range(3):
            with pytest.raises(RuntimeError, match=f"'head{i}'"):
                verify(model, changed(model, f"head{i}"), "strip")


def test_integer_outputs_are_compared():
    inputs = keras.Input((6,))
    x = layers.Dense(8, name="logits")(inputs)
    model = keras.Model(inputs, ops.argmax(x, axis=-1))
    both(model)
    # Not by a bit, which may flip none of a few.
    with pytest.raises(RuntimeError, match="'logits'"):
        verify(model, changed(model, "logits", weight=1, by=9.0), "strip")


def test_not_a_number_is_not_held_against_a_result(caplog):
    inputs = keras.Input((6,))
    x = layers.Dense(8, name="dense")(inputs)
    model = keras.Model(inputs, [ops.log(-ops.square(x) - 1.0), x])
    both(model)
    assert "no finite number" in caplog.text
    with pytest.raises(RuntimeError, match="'dense'"):
        verify(model, changed(model, "dense"), "strip")
    finite = keras.Model(inputs, [x, x])
    with pytest.raises(RuntimeError, match="inf of its scale"):
        verify(finite, model, "strip")


def test_another_shape_is_a_difference():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    result = keras.Model(inputs, layers.Dense(2)(inputs))
    with pytest.raises(RuntimeError, match="in output 0"):
        verify(model, result, "strip")


# === Inputs ===


def draw(model, **arguments):
    return Inputs(trace(model, baked=False)).draw(32, **arguments)


def test_masked_steps_are_among_the_inputs():
    inputs = keras.Input((6, 4))
    x = layers.LSTM(8, name="lstm")(layers.Masking(-1.3)(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    l0keras.strip(l0keras.sparsify(model, rules={"lstm": False}))
    steps = np.all(draw(model) == np.float32(-1.3), axis=-1)
    assert 0 < np.sum(steps) < steps.size
    x = layers.LSTM(8, name="lstm")(inputs)
    bare = keras.Model(inputs, layers.Dense(2, name="last")(x))
    bare.set_weights(model.get_weights())
    with pytest.raises(RuntimeError, match=r"'lstm' \(LSTM\)"):
        verify(model, bare, "strip")


def test_masks_of_outputs_are_compared():
    inputs = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(5, 3, mask_zero=True)(inputs)
    masked = keras.Model(inputs, keras.layers.Dense(2)(x))
    plain = keras.Model(inputs, masked.layers[2](x + 0))
    verify(masked, masked, "strip")
    for pair, words in (
        ((masked, plain), "carries a mask, and .* made no mask"),
        ((plain, masked), "carries no mask, and .* made a mask"),
    ):
        with pytest.warns(UserWarning, match=words):
            verify(*pair, "strip")


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_integers_stay_within_embeddings(dtype):
    inputs = keras.Input((None,), dtype=dtype)
    other = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 8, mask_zero=True)(inputs)
    y = layers.Embedding(50, 8)(layers.Reshape((2, 2))(other))
    y = layers.Dense(8)(layers.Flatten()(y))
    x = layers.GRU(8, name="gru")(x)
    x = layers.Dense(4)(layers.Concatenate()([x, y]))
    model = keras.Model([inputs, other], x)
    l0keras.strip(l0keras.sparsify(model, rules={"gru": False}))
    indices, others = draw(model, examples=20)
    assert set(np.unique(indices)) == set(range(7))
    assert np.any(indices[:, -1] == 0) and 7 < np.max(others) < 50
    assert np.array_equal(indices, np.round(indices))


def test_indices_that_are_moved_before_the_look_up(caplog):
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(7, 8)(inputs + 5))
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    # Out of the table TensorFlow raises, and JAX gives NaN.
    both(model)
    assert not caplog.records
    with pytest.raises(RuntimeError, match="'last'"):
        verify(model, changed(model, "last"), "strip")


def test_integers_of_other_layers():
    inputs = keras.Input((1,), dtype="int64")
    flags = keras.Input((5,), dtype="bool")
    x = layers.CategoryEncoding(num_tokens=5, output_mode="one_hot")(inputs)
    y = ops.one_hot(ops.squeeze(inputs, -1), 4)
    y = ops.concatenate([x, y, ops.cast(flags, "float32")], axis=-1)
    model = keras.Model([inputs, flags], layers.Dense(3)(layers.Dense(6)(y)))
    both(model)
    indices, flags = draw(model, examples=40)
    assert set(np.unique(indices)) == set(range(4))
    assert set(np.unique(flags)) == {False, True} and flags.dtype == bool


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="strings are TensorFlow's"
)
def test_strings():
    inputs = keras.Input((3,), dtype="string")
    words = layers.StringLookup(vocabulary=["x", "y", "z"])
    x = layers.Flatten()(layers.Embedding(4, 8)(words(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    both(model)
    assert set(draw(model, examples=20).flat) >= {"x", "y", "z"}


@pytest.mark.parametrize("kind", ["unet", "strides", "free sequence", "fixed"])
def test_sizes_that_the_model_accepts_are_found(kind, caplog):
    inputs = keras.Input((None, None, 3))
    if kind == "unet":
        x = layers.Conv2D(4, 3, padding="same")(inputs)
        y = layers.UpSampling2D(8)(layers.MaxPooling2D(8)(x))
        x = layers.Concatenate()([x, y])
    elif kind == "strides":
        x = layers.Conv2D(4, 45)(inputs)
    elif kind == "free sequence":
        inputs = keras.Input((None, 5))
        x = layers.Conv1D(4, 3, dilation_rate=4)(inputs)
    else:
        inputs = keras.Input(batch_shape=(5, 6, 3))
        x = layers.LSTM(4, stateful=True, return_sequences=True)(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    both(model)
    assert "not compared" not in caplog.text
    with pytest.raises(RuntimeError, match="'last'"):
        verify(model, changed(model, "last"), "strip")


@keras.saving.register_keras_serializable("verify_test")
class Refuses(layers.Layer):
    def call(self, x):
        raise ValueError("not on Sundays")

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_models_that_cannot_be_called_are_returned_unchecked(caplog):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(Refuses()(inputs)))
    assert l0keras.strip(model).count_params() == model.count_params()
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "not compared" in record.getMessage()
    assert "not on Sundays" in record.getMessage()


# === Chance and state ===


@keras.saving.register_keras_serializable("verify_test")
class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(3)

    def call(self, mean):
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + noise


def sampler():
    inputs = keras.Input((6,))
    x = layers.Dense(8, name="mean")(inputs)
    y = layers.Dense(3, name="decoder")(Sampling()(x))
    return keras.Model(inputs, [y, layers.Dense(2, name="sure")(x)])


def test_random_outputs_are_named_and_others_compared(caplog):
    model = sampler()
    result = changed(model, "decoder", by=0.0)
    for layer in result.layers:
        if isinstance(layer, Sampling):
            layer.seed_generator.state.assign([8, 8])
    verify(model, result, "strip")
    assert "Output 0" in caplog.text and "random" in caplog.text
    with pytest.raises(RuntimeError, match="in output 1.*'sure'"):
        verify(model, changed(model, "sure"), "strip")


def test_random_layers_that_draw_the_same_are_compared(caplog):
    model = sampler()
    l0keras.strip(model)
    assert not caplog.records


@keras.saving.register_keras_serializable("verify_test")
class Counter(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = 0

    def build(self, shape):
        self.count = self.add_weight(shape=(), trainable=False, name="count")

    def call(self, x):
        self.calls += 1
        self.last = x
        self.count.assign_add(1.0)
        self.add_loss(ops.sum(x))
        return x

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def state(model):
    arrays = [to_numpy(v) for v in model.variables]
    for layer in model._flatten_layers():
        arrays += [to_numpy(g.state) for g in layer._seed_generators]
        # Which layers do not count among their variables.
        arrays += [to_numpy(v) for v in getattr(layer, "states", None) or []]
        arrays += [len(layer._losses), getattr(layer, "calls", 0)]
        arrays += [hasattr(layer, "last")]
    return arrays


def test_both_models_are_left_as_they_were():
    inputs = keras.Input(batch_shape=(4, 5, 3))
    x = layers.GRU(8, stateful=True, return_sequences=True)(inputs)
    x = layers.BatchNormalization()(Counter()(x))
    x = layers.Dropout(0.5)(layers.Dense(8)(x))
    y = layers.Dense(2)(Sampling()(x))
    model = keras.Model(inputs, [y, layers.Dense(2, name="last")(x)])
    model.compile(loss="mse", metrics=["mae"])
    model(np.ones((4, 5, 3), "float32"))
    before = state(model)
    gated = l0keras.sparsify(model)
    after_sparsify = state(gated)
    l0keras.strip(gated)
    wrong = changed(model, "last")
    python, numpy = random.getstate(), np.random.get_state()[1].copy()
    verify(model, gated, "sparsify")
    with pytest.raises(RuntimeError):
        verify(model, wrong, "strip")
    for a, b in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(state(gated), after_sparsify, strict=True):
        np.testing.assert_array_equal(a, b)
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)


def test_lists_that_a_call_appends_to_do_not_grow():
    class Logs(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(4)
            self.log, self.last = [], {}

        def call(self, x):
            self.log.append("called")
            self.last["x"] = "called"
            return self.inner(x)

    inputs = keras.Input((4,))
    layer = Logs()
    model = keras.Model(inputs, layer(inputs))
    log, last = list(layer.log), dict(layer.last)
    verify(model, model, "strip")
    assert layer.log == log and layer.last == last


# === Precision ===


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = two_branches()
    both(model)
    with pytest.raises(RuntimeError, match="'c'"):
        verify(model, changed(model, "c", by=9.0), "strip")


def test_what_rounding_explains_is_allowed():
    inputs = keras.Input((6,))
    x = layers.Dense(8, name="first")(inputs)
    x = layers.Rescaling(1e4)(x - ops.stop_gradient(x) * 0.9999)
    model = keras.Model(inputs, x)
    verify(model, changed(model, "first", by=1e-6), "strip")
    with pytest.raises(RuntimeError, match="'first'"):
        verify(model, changed(model, "first", by=1e-2), "strip")
