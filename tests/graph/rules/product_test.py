import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from tests.graph.rules import checks


def scores(q, k):
    return ops.matmul(q, ops.transpose(k, (0, 2, 1)))


def of_heads(x, heads=2):
    return layers.Reshape((x.shape[1], heads, x.shape[2] // heads))(x)


ATTENTION = {
    "matmul": lambda q, k, v: ops.softmax(scores(q, k)) @ v,
    "einsum": lambda q, k, v: ops.einsum(
        "...qk,...kc->...qc", ops.einsum("bqc,bkc->bqk", q, k), v
    ),
    "dot": lambda q, k, v: layers.Dot((2, 1))(
        [layers.Softmax()(layers.Dot(2)([q, k])), v]
    ),
    "normalized": lambda q, k, v: layers.Dot((2, 1), normalize=True)(
        [layers.Dot(2, normalize=True)([q, k]), v]
    ),
}


def attention(form, width=6):
    inputs = keras.Input((5, 3))
    q, k, v = (layers.Dense(width, name=name)(inputs) for name in "qkv")
    x = ATTENTION[form](q, k, v)
    return keras.Model(inputs, layers.Dense(2, name="all_after")(x))


def made(model, *names):
    return [model.get_layer(name).units for name in names]


@pytest.mark.parametrize("form", ATTENTION)
def test_attention_by_hand(form, tmp_path):
    rng = np.random.default_rng(0)
    model = attention(form)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("q"), [1, 2])
    checks.close(model.get_layer("k"), [2, 5])
    checks.close(model.get_layer("v"), [4])
    stripped = checks.check(model, rng, tmp_path)
    # What is 0 in one of q and k nobody needs of the other, but for its norm.
    left = 5 if form == "normalized" else 3
    assert made(stripped, "q", "k", "v") == [left, left, 5]


def test_constants_other_than_zero_count():
    rng = np.random.default_rng(0)
    model = attention("matmul")
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("q"), [1, 2], bias=[0.0, 0.5])
    checks.close(model.get_layer("v"), [4], bias=0.5)
    stripped = checks.check(model, rng)
    assert made(stripped, "q", "k", "v") == [5, 5, 6]


def test_nothing_left_to_sum():
    rng = np.random.default_rng(0)
    model = attention("matmul")
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("q"), [0, 1, 2, 3])
    checks.close(model.get_layer("k"), [3, 4, 5])
    stripped = checks.check(model, rng)
    assert made(stripped, "q", "k", "v") == [1, 1, 6]


def test_the_inputs_of_a_model_are_selected_alike():
    rng = np.random.default_rng(0)
    a, b = keras.Input((6,)), keras.Input((6,))
    gate = l0keras.HardConcreteGate()
    model = keras.Model([a, b], layers.Dot(1)([gate(a), b]))
    gate.log_alpha.assign([5.0, -5.0, 0.5, 5.0, -5.0, 5.0])
    checks.check(model, rng)


def test_what_is_summed_goes_in_pairs():
    q, v, _ = l0keras.channel_groups(attention("matmul"))
    assert (q.makers, q.size, q.fixed) == (["q", "k"], 6, [])
    assert (v.makers, v.size, v.fixed) == (["v"], 6, [])
    assert v.readers == ["all_after"]


def test_heads_share_the_channels_that_are_left(tmp_path):
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 3))
    q, k, v = (of_heads(layers.Dense(6, name=x)(inputs)) for x in "qkv")
    x = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k))
    x = ops.einsum("bhqk,bkhd->bqhd", x, v)
    x = layers.Dense(2, name="all_after")(layers.Reshape((5, 6))(x))
    model = keras.Model(inputs, x)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("q"), [1, 4, 2])
    checks.close(model.get_layer("v"), [0, 3])
    stripped = checks.check(model, rng, tmp_path)
    assert made(stripped, "q", "k", "v") == [4, 4, 4]


@pytest.mark.parametrize(
    "step, left",
    [
        # Both have the channels, and so has what they make.
        (lambda x, y: ops.einsum("btc,bsc->btsc", x, y), (4, 4)),
        (lambda x, y: ops.matmul(x[..., None], y[:, :, None]), (6, 5)),
        # The channels of the last one pass.
        (lambda x, y: ops.einsum("btc,btd->bcd", x, y), (6, 5)),
        (lambda x, y: ops.einsum("btc,btd->bdc", x, y), (5, 6)),
        (lambda x, y: ops.matmul(ops.swapaxes(x, 1, 2), y), (6, 5)),
        (lambda x, y: layers.Dot(1)([x, y]), (6, 5)),
    ],
    ids=range(6),
)
def test_two_tensors(step, left):
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 3))
    x, y = (layers.Dense(6, name=name)(inputs) for name in "xy")
    z = layers.Flatten()(ops.tanh(step(x, y)))
    model = keras.Model(inputs, layers.Dense(2, name="all_after")(z))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("x"), [1])
    checks.close(model.get_layer("y"), [3])
    stripped = checks.check(model, rng)
    if left is not None:
        assert made(stripped, *"xy") == list(left)


def test_a_length_that_is_not_known():
    rng = np.random.default_rng(0)
    inputs = keras.Input((None, 3))
    q, k, v = (layers.Dense(6, name=name)(inputs) for name in "qkv")
    x = ATTENTION["matmul"](q, k, v)
    model = keras.Model(inputs, layers.Dense(2, name="all_after")(x))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("q"), [1, 4])
    stripped = checks.check(model, rng)
    assert made(stripped, *"qkv") == [4, 4, 6]


ARRAY = np.ones((6, 4), "float32")


@pytest.mark.parametrize(
    "step, text",
    [
        (lambda x: ops.matmul(x, ARRAY), "other than two tensors"),
        (lambda x: ops.dot(x, ARRAY), "by an array"),
        (lambda x: ops.tensordot(x, ARRAY, 1), "by an array"),
        (lambda x: ops.inner(x, x), "the examples of a batch"),
        (lambda x: ops.einsum("btc,atc->ba", x, x), "the examples of a batch"),
        (lambda x: ops.einsum("btc->bct", x), "other than two tensors"),
        (lambda x: ops.einsum("btc,btc,btc->bt", x, x, x), "other than two"),
        (lambda x: ops.einsum("btt,btc->btc", scores(x, x), x), "a diagonal"),
        (lambda x: ops.einsum("btc,bcd->bt", x, scores(x, x)), "positions"),
    ],
    ids=range(9),
)
def test_what_is_a_barrier(step, text):
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 3), batch_size=3)
    x = layers.Dense(6, name="before")(inputs)
    model = keras.Model(inputs, step(x))
    assert checks.closed(model, rng) == 6
    (reason,) = checks.barriers(model).values()
    assert text in reason
