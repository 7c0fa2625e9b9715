import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.graph.rules import checks


@pytest.mark.parametrize(
    "step, left",
    [
        (lambda x: x[..., 2:5], 2),
        (lambda x: x[:, :, :, 2:5], 2),
        (lambda x: x[..., -4:-1], 2),
        (lambda x: x[..., ::2], 2),
        (lambda x: x[..., 1::3], 1),
        (lambda x: x[..., ::-1], 4),
        (lambda x: x[:, 1:3], 4),
        (lambda x: x[:, ::2, ::-1], 4),
        (lambda x: x[:, 0], 4),
        (lambda x: x[:, -1, 2:], 4),
        (lambda x: x[:, 2, 1], 4),
        (lambda x: x[:, 1:3, 0, 1:3], 1),
        (lambda x: x[..., 0:6], 4),
        (lambda x: x[:, :, 1:, 3:], 2),
        (lambda x: x[..., 5], 1),
        (lambda x: x[:, :, 1:, -1], 1),
        (lambda x: x[:, None, 1:, ..., None, 2:5], 2),
        (lambda x: x[..., None], 4),
        (lambda x: x[..., None, 2], 1),
        (lambda x: ops.take(x, [2, 0, 2], axis=1), 4),
        (lambda x: ops.take(x, [[2, 0], [1, 1]], axis=2), 4),
    ],
    ids=range(21),
)
def test_slices_and_integers(step, left, tmp_path):
    rng = np.random.default_rng(0)
    model = checks.around(step)
    assert not checks.barriers(model)
    # Units 1 and 4 are constants; what is not in the slice nobody needs.
    bias = [0.0, 0.5]
    assert checks.closed(model, rng, bias=bias, tmp_path=tmp_path) == left


@pytest.mark.parametrize(
    "glu", [lambda x: x[..., :4] * ops.sigmoid(x[..., 4:]), ops.glu]
)
def test_halves_of_channels(glu, tmp_path):
    """A gated linear unit."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3))
    x = glu(layers.Dense(8, name="before")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="all_after")(x))
    # 1 is 0, so that 5 goes too; 4 is needed to halve 0.
    left = checks.closed(model, rng, units=(1, 4), tmp_path=tmp_path)
    assert left == 6


@pytest.mark.parametrize("alike", [True, False])
def test_places_that_are_computed(alike, tmp_path):
    rng = np.random.default_rng(0)

    def step(x):
        of = ops.sum(x, axis=-1, keepdims=True) if alike else x
        return ops.take_along_axis(x, ops.argsort(of, axis=1), axis=1)

    model = checks.around(step)
    left = checks.closed(model, rng, bias=[0.0, 0.5], tmp_path=tmp_path)
    # The sum reads the constant too, that of all places stays all.
    assert left == (5 if alike else 6)


def test_what_others_need_of_the_input():
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3))
    x = layers.Dense(6, name="before")(inputs)
    y = layers.Dense(2, name="all_after")(x[..., ::2])
    model = keras.Model(inputs, [y, layers.Dense(2, name="all_b")(x)])
    assert checks.closed(model, rng, units=(0, 1)) == 4


def test_a_slice_of_which_nothing_is_needed():
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3))
    x = layers.Dense(6, name="before")(inputs)
    y = layers.Dense(2, name="idle")(x[..., :3])
    model = keras.Model(inputs, [y, layers.Dense(2, name="all_b")(x[..., 3:])])
    checks.randomize(model, rng, closed=0.0)
    idle = model.get_layer("idle")
    idle.kernel.assign(np.zeros(idle.kernel.shape))
    checks.check(model, rng)


def test_a_constant_channel_by_its_index():
    rng = np.random.default_rng(0)
    model = checks.around(lambda x: x[..., 1])
    checks.closed(model, rng, bias=2.0)
    graph = checks.constants_of(model)
    np.testing.assert_array_equal(graph.nodes[1].output.constants, [2.0] * 5)


@pytest.mark.parametrize(
    "step, text",
    [
        (lambda x: x[0], "part of the batch"),
        (lambda x: x[:1, 1:], "part of the batch"),
        (lambda x: x[None, :], "part of the batch, or moves it"),
        (lambda x: x[:, None, :, ::2], "takes channels in steps, and"),
        (lambda x: x[:, 1:, ::2], "takes channels in steps, and positions"),
        (
            lambda x: ops.slice(x, (0, 0, 1), (2, 4, 3)),
            "no rule for Slice",
        ),
        (lambda x: ops.take(x, [1, 0], axis=0), "part of the batch"),
        (lambda x: ops.take(x, [1, 0]), "the flattened tensor"),
        (lambda x: ops.take(x, [[1], [0]], axis=-1), "channels by no list"),
    ],
    ids=range(9),
)
def test_what_is_a_barrier(step, text):
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3), batch_size=2)
    x = layers.Dense(6, name="before")(inputs)
    model = keras.Model(inputs, step(x))
    assert checks.closed(model, rng) == 6
    (reason,) = checks.barriers(model).values()
    assert text in reason
