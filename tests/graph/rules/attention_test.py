import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks

HEADS = 4
FLAGS = [
    {},
    {"use_bias": False},
    {"output_shape": 7},
    {"dropout": 0.3},
    {"use_gate": True},
    {"sliding_window": 2},
]
if keras.backend.backend() == "tensorflow":
    # On JAX, Keras 3.15 wants values to be as wide as keys.
    FLAGS.append({"value_dim": 5})


def shut(layer, outputs=(), values=()):
    """Closes some heads, by their output projection or by their values."""
    arrays = checks.weights_of(layer)
    arrays["attention_output/kernel"][list(outputs)] = 0.0
    arrays["value/kernel"][:, list(values)] = 0.0
    if "value/bias" in arrays:
        arrays["value/bias"][list(values)] = 0.0
    checks.assign(layer, arrays)


def shut_rows(dense, rows):
    kernel = keras.ops.convert_to_numpy(dense.kernel).copy()
    kernel[rows] = 0.0
    dense.kernel.assign(kernel)


def shut_columns(dense, columns, bias):
    arrays = checks.weights_of(dense)
    arrays["kernel"][..., columns] = 0.0
    arrays["bias"][columns] = bias
    checks.assign(dense, arrays)


def self_attention(layer, rng, shape=(5, 4), **call):
    """Dense, attention of what it makes to itself, dense."""
    inputs = keras.Input(shape)
    x = layers.Dense(6, activation="relu", name="before")(inputs)
    x = layer(x, x, **call)
    model = keras.Model(inputs, layers.Dense(3, name="after")(x))
    checks.spread(model, rng)
    return model


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_heads_outputs_and_inputs_go(flags, tmp_path):
    """Heads 0 and 2 do nothing; input 1 is zero, 3 another constant."""
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention", **flags)
    model = self_attention(layer, rng)
    shut(layer, [0], [2])
    shut_columns(model.get_layer("before"), [1, 3], [-1.0, 0.6])
    shut_rows(model.get_layer("after"), [0, 4])
    stripped = checks.check(model, rng, tmp_path)
    small = stripped.get_layer("attention")
    assert small.num_heads == HEADS - 2
    width = 7 if "output_shape" in flags else 6
    values = flags.get("value_dim", 3)
    assert small.query_dense.kernel.shape == (4, 2, 3)
    assert small.output_dense.kernel.shape == (2, values, width - 2)
    assert stripped.get_layer("before").units == 4
    assert stripped.get_layer("after").kernel.shape == (width - 2, 3)
    assert not checks.reasons(model)


@pytest.mark.parametrize("length", [5, None])
def test_a_causal_mask(length, tmp_path):
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    model = self_attention(layer, rng, shape=(length, 4), use_causal_mask=True)
    shut(layer, [0], [2])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("attention").num_heads == HEADS - 2


@pytest.mark.parametrize("key", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_different_inputs_and_a_mask(key, named, tmp_path):
    """Each input is cut for itself; the mask is whole, of any size."""
    rng = np.random.default_rng(0)
    inputs = [keras.Input((None, size)) for size in (5, 4, 6)]
    mask = keras.Input((None, None), dtype="bool")
    query, value, other = (
        layers.Dense(5, activation="relu", name=name)(x)
        for name, x in zip(("query", "value", "key"), inputs)
    )
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    call = {"attention_mask": mask}
    if key:
        call["key"] = other
    if named:
        x = layer(query, value=value, **call)
    else:
        x = layer(query, value, **call)
    inputs = [*(inputs if key else inputs[:2]), mask]
    model = keras.Model(inputs, x)
    checks.spread(model, rng)
    shut(layer, [0], [2])
    arrays = checks.weights_of(layer)
    arrays["query/kernel"][[1, 2]] = 0.0
    arrays["value/kernel"][[0, 1, 3]] = 0.0
    arrays["key/kernel"][[3]] = 0.0
    checks.assign(layer, arrays)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("query").units == 3
    assert stripped.get_layer("value").units == (2 if key else 4)
    if key:
        assert stripped.get_layer("key").units == 4
    assert stripped.get_layer("attention").num_heads == 2


def test_biases_appear_for_constant_inputs():
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(2, 3, name="attention", use_bias=False)
    model = self_attention(layer, rng)
    shut_columns(model.get_layer("before"), [1, 3], [0.4, 0.6])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("attention").use_bias
    assert stripped.get_layer("before").units == 4


def test_values_of_inputs_that_are_zero_are_zero():
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    model = self_attention(layer, rng)
    shut_columns(model.get_layer("before"), [1], [-1.0])
    arrays = checks.weights_of(layer)
    arrays["value/kernel"][[0, 2, 3, 4, 5], 2] = 0.0
    arrays["value/bias"][2] = 0.0
    checks.assign(layer, arrays)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("attention").num_heads == HEADS - 1


@pytest.mark.parametrize("touch", ["kernel", "bias", "output"])
def test_heads_that_do_something_stay(touch):
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    model = self_attention(layer, rng)
    if touch == "output":
        shut(layer, outputs=[1])
    else:
        shut(layer, values=[1])
    arrays = checks.weights_of(layer)
    if touch == "kernel":
        arrays["value/kernel"][0, 1, 2] = 0.1
    elif touch == "bias":
        arrays["value/bias"][1, 0] = 0.1
    else:
        arrays["attention_output/kernel"][1, 2, 3] = 0.1
    checks.assign(layer, arrays)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("attention").num_heads == HEADS


def test_a_head_goes_whose_open_values_meet_closed_outputs():
    """Value 0 is never read, all others are zero."""
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    model = self_attention(layer, rng)
    arrays = checks.weights_of(layer)
    arrays["attention_output/kernel"][1, 0] = 0.0
    arrays["value/kernel"][:, 1, 1:] = 0.0
    arrays["value/bias"][1, 1:] = 0.0
    checks.assign(layer, arrays)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("attention").num_heads == HEADS - 1


def residual(layer, rng):
    inputs = keras.Input((5, 4))
    x = layers.Dense(6, name="before")(inputs)
    y = layers.Dense(6, name="inner")(x)
    y = layer(y, y)
    x = layers.Add(name="add")([x, y])
    model = keras.Model(inputs, layers.Dense(3, name="after")(x))
    checks.spread(model, rng)
    return model


@pytest.mark.parametrize(
    "layer",
    [
        layers.MultiHeadAttention(HEADS, 3),
        layers.GroupQueryAttention(3, HEADS, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_branch_without_heads_disappears(layer):
    rng = np.random.default_rng(0)
    layer = type(layer).from_config(layer.get_config())
    model = residual(layer, rng)
    shut(layer, outputs=[0, 2], values=[1, 3] if "Multi" in layer.name else [])
    shut(layer, outputs=range(HEADS))
    constants = checks.constants_of(model).nodes[2].output.constants
    bias = checks.weights_of(layer)["attention_output/bias"]
    np.testing.assert_array_equal(constants, bias)
    stripped = checks.check(model, rng)
    kinds = [type(each) for each in stripped.layers]
    assert type(layer) not in kinds
    assert kinds.count(layers.Dense) == 2


@pytest.mark.parametrize("values", [False, True])
def test_one_head_stays_of_none(values):
    """And as that does nothing, its inputs do not matter."""
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    inputs = keras.Input((5, 4))
    x = layers.Dense(6, activation="relu", name="before")(inputs)
    x = layer(x, x)
    model = keras.Model(inputs, layers.Softmax()(x))
    checks.spread(model, rng)
    if values:
        shut(layer, values=range(HEADS))
    else:
        shut(layer, outputs=range(HEADS))
    stripped = checks.check(model, rng)
    assert stripped.get_layer("attention").num_heads == 1
    assert stripped.get_layer("attention").query_dense.kernel.shape[0] == 1
    assert stripped.get_layer("before").units == 1


def test_channels_of_the_residual_go_everywhere(tmp_path):
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    model = residual(layer, rng)
    shut_rows(model.get_layer("inner"), [1, 5])
    shut_rows(model.get_layer("after"), [1, 5])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").units == 4
    assert stripped.get_layer("attention").output_dense.kernel.shape[-1] == 4
    assert stripped.get_layer("attention").query_dense.kernel.shape[0] == 6


def test_attention_along_other_axes(tmp_path):
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(
        HEADS, 3, attention_axes=(2,), name="attention"
    )
    model = self_attention(layer, rng, shape=(3, 5, 4))
    shut(layer, [0], [2])
    shut_rows(model.get_layer("after"), [0, 4])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("attention").num_heads == HEADS - 2


def test_masked_steps():
    rng = np.random.default_rng(0)
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(4, 6, mask_zero=True)(inputs)
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    x = layer(x, x)
    model = keras.Model(inputs, layers.GRU(3, name="rnn")(x))
    checks.spread(model, rng)
    shut(layer, [0], [2])
    shut_rows(model.get_layer("rnn").cell, [1, 2])
    stripped = checks.check(model, rng)
    small = stripped.get_layer("attention")
    assert small.num_heads == HEADS - 2
    assert small.output_dense.kernel.shape[-1] == 4


def test_the_scale_of_a_gate_goes_into_the_output_projection():
    rng = np.random.default_rng(0)
    gate = l0keras.HardConcreteGate(axis=-1)
    inputs = keras.Input((5, 4))
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    x = layers.Dense(3)(gate(layer(inputs, inputs)))
    model = keras.Model(inputs, x)
    checks.spread(model, rng)
    gate.log_alpha.assign([1.0, -5.0, 0.5, 0.1])
    stripped = checks.check(model, rng)
    assert not any(isinstance(x, layers.Rescaling) for x in stripped.layers)
    assert stripped.get_layer("attention").output_dense.kernel.shape[-1] == 3


def test_shared_calls_agree():
    rng = np.random.default_rng(0)
    inputs = [keras.Input((5, 4)), keras.Input((6, 4))]
    layer = layers.MultiHeadAttention(HEADS, 3, name="attention")
    parts = [
        layers.Dense(2, name=f"after{i}")(layer(x, x))
        for i, x in enumerate(inputs)
    ]
    model = keras.Model(inputs, layers.Concatenate(axis=1)(parts))
    checks.spread(model, rng)
    shut(layer, [0], [2])
    shut_rows(model.get_layer("after0"), [0, 1])
    shut_rows(model.get_layer("after1"), [0, 2])
    stripped = checks.check(model, rng)
    small = stripped.get_layer("attention")
    assert small.num_heads == HEADS - 2
    assert small.output_dense.kernel.shape[-1] == 3


@pytest.mark.parametrize(
    "flags", [{}, {"use_bias": False}, {"use_gate": True}, {"dropout": 0.3}]
)
@pytest.mark.parametrize("causal", [False, True])
def test_groups_of_query_heads(flags, causal, tmp_path):
    """Of three groups one is gone, and one of two query heads of another."""
    rng = np.random.default_rng(0)
    layer = layers.GroupQueryAttention(3, 9, 3, name="attention", **flags)
    model = self_attention(layer, rng, use_causal_mask=causal)
    # Groups (0, 1, 2), (3, 4, 5), (6, 7, 8).
    shut(layer, outputs=[3, 4, 5, 1, 6, 8])
    stripped = checks.check(model, rng, tmp_path)
    small = stripped.get_layer("attention")
    assert small.num_key_value_heads == 2
    assert small.num_query_heads == 4


def test_groups_whose_values_are_zero():
    rng = np.random.default_rng(0)
    layer = layers.GroupQueryAttention(3, 4, 2, name="attention")
    model = self_attention(layer, rng)
    shut(layer, values=[1])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("attention").num_key_value_heads == 1
    assert stripped.get_layer("attention").num_query_heads == 2


def test_widths_of_grouped_attention_are_one(tmp_path):
    """Channel 1 is dead on both sides, 2 and 3 on one side each."""
    rng = np.random.default_rng(0)
    layer = layers.GroupQueryAttention(3, 4, 2, name="attention")
    model = self_attention(layer, rng)
    shut_rows(model.get_layer("after"), [1, 2])
    arrays = checks.weights_of(layer)
    for name in ("query", "key", "value"):
        arrays[f"{name}/kernel"][[1, 3]] = 0.0
    checks.assign(layer, arrays)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").units == 5
    assert stripped.get_layer("after").kernel.shape[0] <= 5
    shapes = checks.weights_of(stripped.get_layer("attention"))
    assert shapes["attention_output/kernel"].shape == (4, 3, 5)
    assert shapes["query/kernel"].shape == (5, 4, 3)


def test_grouped_attention_to_something_else(tmp_path):
    rng = np.random.default_rng(0)
    inputs = [keras.Input((None, 4)), keras.Input((None, 3))]
    query, value = (
        layers.Dense(6, activation="relu", name=name)(x)
        for name, x in zip(("query", "value"), inputs)
    )
    layer = layers.GroupQueryAttention(3, 4, 2, name="attention")
    model = keras.Model(
        inputs, layers.Dense(2, name="after")(layer(query, value))
    )
    checks.spread(model, rng)
    shut_columns(model.get_layer("query"), [1, 2], [0.0, 0.4])
    shut_columns(model.get_layer("value"), [1, 3], [0.0, 0.5])
    shut_rows(model.get_layer("after"), [1])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("query").units == 5
    assert stripped.get_layer("value").units == 5


def test_barriers():
    inputs = keras.Input((5, 4))
    layer = layers.MultiHeadAttention(2, 3, name="scores")
    x, _ = layer(inputs, inputs, return_attention_scores=True)
    x = layers.MultiHeadAttention(2, 3, output_shape=(2, 3), name="axes")(x, x)
    found = checks.reasons(keras.Model(inputs, x))
    assert "gives out its scores" in found["scores"]
    assert "projects to several axes" in found["axes"]
    layer = layers.GroupQueryAttention(3, 4, 2, name="shared")
    x = layer(inputs, inputs)
    assert (
        "shared" in checks.reasons(keras.Model(inputs, layer(x, x)))["shared"]
    )


def test_heads_that_attend_to_each_other_stay():
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(
        HEADS, 3, attention_axes=(3,), name="attention"
    )
    inputs = keras.Input((5, 2, 4))
    x = layers.Dense(6)(inputs)
    model = keras.Model(inputs, layer(x, x))
    checks.spread(model, rng)
    shut(layer, [0], [2])
    checks.check(model, rng)
    assert "attend to each other" in checks.barriers(model)["attention"]
    l0keras.sparsify(model)
