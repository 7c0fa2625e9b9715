import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks


def model_of(layer, key=True, mask=False, scores=False, **call):
    """Dense layers that make query, value and key, attention, dense."""
    inputs = [keras.Input((5, 4)), keras.Input((7, 4))]
    tensors = [
        layers.Dense(6, name="query")(inputs[0]),
        layers.Dense(8 if key else 6, name="value")(inputs[1]),
    ]
    if key:
        tensors.append(layers.Dense(6, name="key")(inputs[1]))
    if mask:
        masks = [keras.Input((n,), dtype="bool") for n in (5, 7)]
        inputs += masks
        call["mask"] = masks
    x = layer(tensors, return_attention_scores=scores, **call)
    outputs = [x[1]] if scores else []
    x = layers.Dense(3, name="all_after")(x[0] if scores else x)
    model = keras.Model(inputs, [x, *outputs])
    checks.spread(model, np.random.default_rng(0))
    return model


def widths(model):
    return [
        model.get_layer(name).units
        for name in ("query", "value", "key")
        if name in {layer.name for layer in model.layers}
    ]


@pytest.mark.parametrize(
    "call", [{}, {"mask": True}, {"use_causal_mask": True}]
)
@pytest.mark.parametrize(
    "layer, left",
    [
        (layers.Attention(use_scale=True), 4),
        (layers.Attention(score_mode="concat", use_scale=True), 5),
        (layers.AdditiveAttention(), 5),
        (layers.AdditiveAttention(use_scale=False), 5),
    ],
    ids=range(4),
)
def test_channels_of_queries_and_keys_go_together(layer, left, call, tmp_path):
    """Of the query channel 1 is 0, of the key channel 3 is a constant."""
    rng = np.random.default_rng(0)
    config = {**layer.get_config(), "name": "attention"}
    model = model_of(type(layer).from_config(config), **call)
    checks.close(model.get_layer("query"), [1])
    checks.close(model.get_layer("key"), [3], bias=0.7)
    checks.close(model.get_layer("value"), [0, 5])
    stripped = checks.check(model, rng, tmp_path)
    assert widths(stripped) == [left, 6, left]
    assert not checks.barriers(model)


def test_factors_of_0_close_sums():
    layer = layers.AdditiveAttention()
    model = model_of(layer)
    layer.scale.assign([1.0, 0.0, 0.5, 2.0, 0.0, 1.0])
    stripped = checks.check(model, np.random.default_rng(0))
    assert widths(stripped) == [4, 8, 4]


def test_values_that_are_keys_need_both():
    model = model_of(layers.Attention(), key=False)
    checks.close(model.get_layer("query"), [1, 2])
    after = model.get_layer("all_after")
    kernel = checks.to_numpy(after.kernel).copy()
    kernel[[2, 3]] = 0.0
    after.kernel.assign(kernel)
    stripped = checks.check(model, np.random.default_rng(0))
    assert widths(stripped) == [5, 5]


def test_scores_that_are_all_alike_keep_a_channel():
    model = model_of(layers.Attention())
    checks.close(model.get_layer("query"), np.arange(6))
    stripped = checks.check(model, np.random.default_rng(0))
    assert widths(stripped) == [1, 8, 1]


@pytest.mark.parametrize(
    "layer, key, gates",
    [
        (layers.Attention(), True, 14),
        (layers.Attention(), False, 6),
        (layers.Attention(score_mode="concat"), True, 14),
        (layers.AdditiveAttention(), True, 14),
        (layers.AdditiveAttention(), False, 0),
    ],
    ids=range(5),
)
def test_gates_of_queries_keys_and_values(layer, key, gates):
    rng = np.random.default_rng(0)
    model = model_of(type(layer).from_config(layer.get_config()), key)
    gated = l0keras.sparsify(model)
    found = l0keras.gates_of(gated)
    assert sum(gate.log_alpha.shape[0] for gate in found) == gates
    for gate in found:
        closed = np.arange(gate.log_alpha.shape[0]) % 2
        gate.log_alpha.assign(np.where(closed, -8.0, 0.3))
    stripped = checks.check(gated, rng)
    assert widths(stripped) == ([3, 4, 3] if key else [3 if gates else 6] * 2)


def test_scores_that_are_given_out_are_a_barrier():
    model = model_of(layers.Attention(name="attention"), scores=True)
    checks.check(model, np.random.default_rng(0))
    assert "gives out its scores" in checks.barriers(model)["attention"]


def test_masked_inputs_are_a_barrier():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(4, 6, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.Attention(name="attention")([x, x]))
    checks.check(model, np.random.default_rng(0))
    assert "carry a mask" in checks.barriers(model)["attention"]
