import itertools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from l0keras import HardConcreteGate
from tests import covering
from tests.graph.rules import checks

OVER_POSITIONS = [
    "amax",
    "amin",
    "logsumexp",
    "max",
    "mean",
    "median",
    "min",
    "std",
    "var",
]
AXES = [1, (1, 2), [-2, 1]]


@pytest.mark.parametrize(
    "name, axes",
    covering.singles(OVER_POSITIONS, AXES)
    # How many positions there are counts for these.
    + list(itertools.product(["prod", "sum"], AXES)),
)
def test_over_positions(name, axes, tmp_path):
    rng = np.random.default_rng(0)
    reduce = getattr(ops, name)
    model = checks.around(
        lambda x: reduce(x, axis=axes, keepdims=axes == (1, 2))
    )
    assert not checks.barriers(model)
    bias = [0.0, 0.5]
    assert checks.closed(model, rng, bias=bias, tmp_path=tmp_path) == 4


@pytest.mark.parametrize("name, left", [("sum", 5), ("max", 4), ("mean", 4)])
def test_a_number_of_positions_that_is_not_known(name, left):
    rng = np.random.default_rng(0)
    inputs = keras.Input((None, 3))
    x = layers.Dense(6, name="before")(inputs)
    x = getattr(ops, name)(x, axis=1)
    model = keras.Model(inputs, layers.Dense(2, name="all_after")(x))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4], bias=[0.0, 2.0])
    from l0keras import strip

    stripped = strip(model)
    for length in (3, 7):
        x = rng.normal(size=(2, length, 3)).astype("float32")
        expected = checks.outputs_of(model, [x])
        checks.same(checks.outputs_of(stripped, [x]), expected)
    assert stripped.get_layer("before").units == left


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize(
    "axis, keepdims", [(-1, True), (3, False), ((1, 3), False), ((2, 3), True)]
)
def test_over_channels_zeros_go(name, axis, keepdims, tmp_path):
    rng = np.random.default_rng(0)
    model = checks.around(
        lambda x: getattr(ops, name)(x, axis=axis, keepdims=keepdims)
    )
    assert checks.closed(model, rng, tmp_path=tmp_path) == 4
    # Other constants count.
    assert checks.closed(model, rng, bias=[0.0, 0.5]) == 5


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize(
    "pool", [layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D]
)
def test_pooling_over_channels_zeros_go(pool, keepdims, tmp_path):
    rng = np.random.default_rng(0)
    pool = pool("channels_first", keepdims)
    model = checks.around(pool)
    assert checks.closed(model, rng, tmp_path=tmp_path) == 4


@pytest.mark.parametrize("name", ["max", "amin"])
@pytest.mark.parametrize("axis, keepdims", [(-1, True), ((1, 3), False)])
def test_extremes_over_channels_are_also_of_what_went(
    name, axis, keepdims, tmp_path
):
    rng = np.random.default_rng(0)
    model = checks.around(
        lambda x: getattr(ops, name)(x, axis=axis, keepdims=keepdims)
    )
    bias = [-0.2, 0.5]
    assert checks.closed(model, rng, bias=bias, tmp_path=tmp_path) == 4
    # What is left of them all is one number.
    assert checks.closed(model, rng, units=range(6), bias=0.5) == 1


@pytest.mark.parametrize("name", ["sum", "mean"])
def test_sums_of_constants_are_constant(name):
    rng = np.random.default_rng(0)
    model = checks.around(lambda x: getattr(ops, name)(x, -1, keepdims=True))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), np.arange(6), bias=0.5)
    graph = checks.constants_of(model)
    expected = 0.5 if name == "mean" else 3.0
    assert graph.nodes[1].output.constants == [expected]
    checks.check(model, rng)


def test_a_mean_of_channels_is_cut_again_and_again():
    """Its share has a name of its own each time."""
    rng = np.random.default_rng(0)
    model = checks.around(lambda x: ops.mean(x, -1, keepdims=True))
    checks.randomize(model, rng, closed=0.0)
    for left in (5, 4, 3):
        before = model.get_layer("before")
        checks.close(before, [1])
        model = checks.check(model, rng)
        assert model.get_layer("before").units == left


def test_attention_to_places():
    """Of CBAM: mean and max over channels, joined and convolved."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 5, 3))
    x = layers.Conv2D(8, 1, activation="relu", name="before")(inputs)
    mean = ops.mean(x, axis=-1, keepdims=True)
    most = ops.max(x, axis=-1, keepdims=True)
    y = layers.Concatenate()([mean, most])
    y = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(y)
    x = layers.Multiply()([x, y])
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="all_after")(x))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 2, 5])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters == 5


def test_gates_move_through_what_is_homogeneous():
    rng = np.random.default_rng(0)
    gate = HardConcreteGate(name="gate")
    inputs = keras.Input((4, 3))
    x = layers.Dense(6, activation="sigmoid", name="before")(inputs)
    x = ops.max(gate(x), axis=1)
    x = layers.Dense(2, activation="sigmoid", name="all_after")(x)
    model = keras.Model(inputs, x)
    checks.randomize(model, rng, closed=0.0)
    gate.log_alpha.assign([0.0, 0.5, -5.0, 1.0, -0.5, -5.0])
    stripped = checks.check(model, rng)
    assert "gate" not in {layer.name for layer in stripped.layers}


@pytest.mark.parametrize(
    "step, text",
    [
        (lambda x: ops.median(x, axis=-1, keepdims=True), "the channels"),
        (lambda x: ops.std(x, axis=-1, keepdims=True), "the channels"),
        (lambda x: ops.mean(x, axis=(0, 1)), "the batch"),
        (lambda x: ops.max(x, axis=1, initial=0.1), "initial value"),
        (lambda x: ops.argmax(x, axis=1), "no rule for Argmax"),
    ],
    ids=range(5),
)
def test_what_is_a_barrier(step, text):
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3))
    x = layers.Dense(6, name="before")(inputs)
    model = keras.Model(inputs, step(x))
    assert checks.closed(model, rng) == 6
    (reason,) = checks.barriers(model).values()
    assert text in reason
