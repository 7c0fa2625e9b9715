import inspect

import keras
import numpy as np
import pytest

from l0keras.layers import L0MultiHeadAttention
from tests.layers.gated_layer_tests import GatedLayerTests
from tests.layers.gated_layer_tests import numpy
from tests.layers.gated_layer_tests import random

PLAIN = keras.layers.MultiHeadAttention


class TestL0MultiHeadAttention(GatedLayerTests):
    layer_class = L0MultiHeadAttention
    plain_class = PLAIN
    default_granularity = "head"
    granularities = ("head",)
    per_example = ("head",)
    # A shift of all keys changes no softmax.
    unused = ("key/bias",)
    variants = [
        ({"num_heads": 3, "key_dim": 2}, (4, 5, 4)),
        (
            {"num_heads": 2, "key_dim": 3, "value_dim": 1, "use_bias": False},
            (2, 4, 3),
        ),
        ({"num_heads": 2, "key_dim": 2, "output_shape": (2, 3)}, (2, 4, 3)),
        (
            {"num_heads": 3, "key_dim": 2, "attention_axes": (2,)},
            (2, 3, 4, 5),
        ),
        ({"num_heads": 2, "key_dim": 2, "use_gate": True}, (2, 4, 3)),
        ({"num_heads": 2, "key_dim": 2, "attention_axes": -2}, (2, 3, 4, 2)),
        (
            {"num_heads": 2, "key_dim": 2, "sliding_window": 2},
            (2, 5, 3),
        ),
    ]
    other_arguments = {
        "num_heads": 3,
        "key_dim": 5,
        "value_dim": 2,
        "dropout": 0.2,
        "use_bias": False,
        "output_shape": (4,),
        "attention_axes": (1,),
        "sliding_window": 3,
        "flash_attention": False,
        "kernel_initializer": "he_normal",
        "bias_initializer": "ones",
        "kernel_regularizer": "l1",
        "bias_regularizer": "l2",
        "activity_regularizer": "l2",
        "kernel_constraint": "non_neg",
        "bias_constraint": "max_norm",
        "use_gate": True,
        "seed": 9,
    }

    def symbolic(self, shape):
        return keras.Input(shape[1:])

    def build(self, layer, shape):
        layer.build(shape, shape)

    def run(self, layer, inputs, **arguments):
        return numpy(layer(inputs, inputs, **arguments))

    def model(self, layer, shape):
        inputs = self.symbolic(shape)
        return keras.Model(inputs, layer(inputs, inputs))

    def gate(self, plain, granularity, inputs, gates):
        return self.run(scaled(plain, [inputs.shape] * 2, gates), inputs)


def scaled(plain, shapes, gates):
    """The plain layer with gates on the output kernel's slices."""
    layer = PLAIN.from_config(plain.get_config())
    layer.build(*shapes)
    layer.set_weights(plain.get_weights())
    kernel = layer.output_dense.kernel
    gates = gates.reshape([-1] + [1] * (len(kernel.shape) - 1))
    kernel.assign(numpy(kernel) * gates)
    return layer


def pair(shapes, sample_per="batch", **arguments):
    """A gated layer with test gates, and the plain one scaled by them."""
    arguments = {"num_heads": 3, "key_dim": 2, **arguments}
    layer = L0MultiHeadAttention(
        **arguments, sample_per=sample_per, log_alpha_limit=None
    )
    plain = PLAIN(**arguments)
    layer.build(*shapes)
    plain.build(*shapes)
    weights = [random(w.shape, i) for i, w in enumerate(plain.weights)]
    plain.set_weights(weights)
    layer.gate.log_alpha.assign([-100.0, 0.7, 100.0])
    layer.set_weights([*weights, numpy(layer.gate.log_alpha)])
    gates = layer.gate.test_gates()
    assert gates[0] == 0 and 0 < gates[1] < 1
    return layer, scaled(plain, shapes, gates)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


QUERY, VALUE = (2, 4, 5), (2, 6, 3)


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"key": random((2, 6, 7), seed=2)},
        {"use_causal_mask": True},
        {"attention_mask": np.arange(48).reshape(2, 4, 6) % 3 > 0},
        {
            "attention_mask": np.arange(48).reshape(2, 4, 6) % 5 > 0,
            "use_causal_mask": True,
        },
        {"query_mask": np.arange(8).reshape(2, 4) % 4 < 3},
        {"value_mask": np.arange(12).reshape(2, 6) % 6 < 4},
        {
            "key": random((2, 6, 7), seed=2),
            "key_mask": np.arange(12).reshape(2, 6) % 6 < 4,
        },
    ],
    ids=lambda call: ",".join(call) or "plain",
)
@pytest.mark.parametrize("scores", [False, True])
def test_every_call_argument(call, scores):
    shapes = [QUERY, VALUE]
    if "key" in call:
        shapes.append(call["key"].shape)
    layer, plain = pair(shapes)
    inputs = random(QUERY), random(VALUE, seed=1)
    expected = plain(*inputs, **call, return_attention_scores=scores)
    for gated in (layer, layer.bake()):
        outputs = gated(*inputs, **call, return_attention_scores=scores)
        if scores:
            close(outputs[0], expected[0])
            # Those of open heads.
            close(outputs[1][:, 1:], expected[1][:, 1:])
        else:
            close(outputs, expected)
    names = inspect.signature(PLAIN.call).parameters
    own = inspect.signature(L0MultiHeadAttention.call).parameters
    # Behind those of the plain layer, gates from outside.
    assert list(own) == [*names, "gates"]


@pytest.mark.parametrize("sample_per", ["batch", "example"])
def test_a_closed_head_attends_to_all_positions_alike(sample_per):
    layer, _ = pair([QUERY, VALUE], sample_per=sample_per)
    inputs = random(QUERY), random(VALUE, seed=1)
    mask = np.arange(48).reshape(2, 4, 6) % 3 > 0
    for gated, training in (
        (layer, True),
        (layer, False),
        (layer.bake(), False),
    ):
        _, scores = gated(
            *inputs,
            attention_mask=mask,
            return_attention_scores=True,
            training=training,
        )
        uniform = mask / mask.sum(axis=-1, keepdims=True)
        close(scores[:, 0], uniform)
        assert np.abs(numpy(scores)[:, 2] - uniform).max() > 1e-2


def test_gates_for_each_example_are_those_of_the_batch():
    layer, plain = pair([QUERY, VALUE], sample_per="example")
    gates = np.array([[0.3, 0.8, 0.0], [1.0, 0.0, 0.5]], "float32")
    layer.gate.values = lambda training, size: keras.ops.array(gates)
    plain.set_weights(layer.get_weights()[:-1])
    inputs = random(QUERY), random(VALUE, seed=1)
    outputs = numpy(layer(*inputs, training=True))
    for i in range(2):
        alone = scaled(plain, [QUERY, VALUE], gates[i])
        one = [values[i : i + 1] for values in inputs]
        close(outputs[i : i + 1], alone(*one))


def test_drops_out_what_the_plain_layer_does():
    layer, plain = pair([QUERY, VALUE], dropout=0.5, seed=3)
    layer.gate.trainable = False
    inputs = random(QUERY), random(VALUE, seed=1)
    for _ in range(2):
        expected = plain(*inputs, training=True)
        close(layer(*inputs, training=True), expected)
    assert np.abs(numpy(expected) - numpy(plain(*inputs))).max() > 1e-2


@pytest.mark.parametrize("biases, weights", [(True, 3 * 2), (False, 0)])
def test_group_size(biases, weights):
    layer = L0MultiHeadAttention(4, 2, use_bias=biases)
    layer.build((None, 7, 5), (None, 6, 3))
    # Query of 5, key and value of 3, and the output kernel's slice.
    assert layer.gate.group_size == 2 * (5 + 3 + 3) + weights + 2 * 5


def test_passes_masks_on():
    ids = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
    embedding = keras.layers.Embedding(5, 3, mask_zero=True)
    layer, plain = pair([(2, 4, 3)] * 2)

    def run(attention):
        # Keras takes the mask off the tensor that it was given.
        embedded = embedding(ids)
        return attention(embedded, embedded)

    expected = run(plain)
    for gated in (layer, layer.bake()):
        outputs = run(gated)
        np.testing.assert_array_equal(outputs._keras_mask, ids != 0)
        close(outputs, expected)


def test_refuses_attention_between_heads():
    layer = L0MultiHeadAttention(2, 3, attention_axes=-1)
    with pytest.raises(ValueError, match="`attention_axes`.*attention_axes="):
        layer.build((2, 4, 3), (2, 4, 3))


def test_passes_flash_attention_through():
    layer = L0MultiHeadAttention(2, 3, flash_attention=True)
    layer.build((2, 4, 3), (2, 4, 3))
    assert layer._flash_attention and layer.bake()._flash_attention
    layer = L0MultiHeadAttention(2, 3)
    layer.build((2, 4, 3), (2, 4, 3))
    assert not layer.bake()._flash_attention


class Stop(Exception):
    """What a test stops a call with."""


def test_an_error_leaves_no_gates_behind(monkeypatch):
    layer, plain = pair([QUERY, VALUE])

    def attend(*args, **kwargs):
        assert layer.value_dense._gates is not None
        raise Stop

    monkeypatch.setattr(layer, "_compute_attention", attend)
    with pytest.raises(Stop):
        layer(random(QUERY), random(VALUE))
    assert layer.query_dense._gates is None
    assert layer.value_dense._gates is None


def test_jit():
    layer, plain = pair([QUERY, VALUE])
    inputs = random(QUERY), random(VALUE, seed=1)
    expected = plain(*inputs)
    if keras.backend.backend() == "jax":
        import jax

        variables = [w.value for w in layer.trainable_variables]
        others = [w.value for w in layer.non_trainable_variables]
        outputs = jax.jit(lambda v, o, *x: layer.stateless_call(v, o, *x)[0])(
            variables, others, *inputs
        )
    else:
        import tensorflow as tf

        outputs = tf.function(layer, jit_compile=True)(*inputs)
    close(outputs, expected)
    close(layer(*inputs), expected)
