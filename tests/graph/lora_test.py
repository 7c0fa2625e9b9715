import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks


def sequence(*rest):
    return keras.Sequential([keras.Input((5, 4)), *rest])


def attention(layer):
    inputs = keras.Input((5, 4))
    x = layers.Dense(6)(inputs)
    return keras.Model(inputs, layers.Dense(3)(layer(x, x)))


def dense():
    adapted = layers.Dense(8, activation="relu")
    return sequence(adapted, layers.Dense(3)), [adapted]


def inside_a_wrapper():
    adapted = layers.Dense(8)
    wrapper = layers.TimeDistributed(adapted)
    return sequence(wrapper, layers.Dense(3)), [adapted]


def einsum_dense():
    adapted = layers.EinsumDense("abc,cd->abd", (None, 8), bias_axes="d")
    return sequence(adapted, layers.Dense(3)), [adapted]


def convolutions():
    adapted = [layers.Conv1D(6, 2), layers.Conv1D(5, 2, padding="same")]
    return sequence(*adapted, layers.Dense(3)), adapted


def embedding():
    adapted = layers.Embedding(4, 6)
    inputs = keras.Input((5,), dtype="int32")
    return keras.Model(inputs, layers.Dense(3)(adapted(inputs))), [adapted]


def multi_head():
    layer = layers.MultiHeadAttention(2, 3)
    model = attention(layer)
    return model, [layer.query_dense, layer.value_dense]


@pytest.mark.parametrize(
    "make",
    [
        dense,
        inside_a_wrapper,
        einsum_dense,
        convolutions,
        embedding,
        multi_head,
    ],
)
def test_adapted_layers_are_gated_and_merged(make, tmp_path):
    rng = np.random.default_rng(0)
    model, adapted = make()
    for layer in adapted:
        layer.enable_lora(2, lora_alpha=3.0)
    checks.spread(model, rng)
    gated = l0keras.sparsify(model)
    assert len(gated.trainable_weights) > len(model.trainable_weights)
    for gate in l0keras.gates_of(gated):
        closed = np.arange(gate.log_alpha.shape[0]) % 2
        gate.log_alpha.assign(np.where(closed, -8.0, 3.0))
    stripped = checks.check(gated, rng, tmp_path)
    plain, _ = make()
    assert len(stripped.weights) == len(plain.weights)
    assert stripped.count_params() < 0.8 * plain.count_params()
    assert all(weight.trainable for weight in stripped.weights)
    assert not checks.barriers(gated)


def test_a_frozen_layer_stays_frozen():
    model, (adapted,) = dense()
    adapted.enable_lora(2)
    adapted.trainable = False
    stripped = checks.check(model, np.random.default_rng(0))
    assert not stripped.layers[1].trainable_weights


def test_zeros_of_a_kernel_under_an_adaption_are_no_group():
    model, (adapted,) = dense()
    group = l0keras.channel_groups(model)[0]
    assert len(group.parts) == 2
    adapted.enable_lora(2)
    assert not l0keras.channel_groups(model)[0].parts


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_attention_stays_whole(mode):
    """Not a layer alone: one inside of it says so."""
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(2, 3, name="attention")
    model = attention(layer)
    checks.spread(model, rng)
    layer.query_dense.quantize(mode)
    gated = l0keras.sparsify(model)
    inputs = checks.inputs_for(model, rng)
    expected = checks.outputs_of(model, inputs)
    for one in (gated, l0keras.strip(gated)):
        checks.same(checks.outputs_of(one, inputs), expected)
    assert f"quantized to {mode}" in checks.barriers(model)["attention"]
