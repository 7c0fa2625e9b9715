import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.graph.rules import checks


@pytest.mark.parametrize(
    "step",
    [
        lambda x: ops.flip(x, axis=1),
        lambda x: ops.flip(x, axis=(1, 2)),
        lambda x: ops.flip(x, axis=-1),
        lambda x: ops.flip(x, axis=(1, 3)),
        lambda x: ops.roll(x, 2, axis=1),
        lambda x: ops.roll(x, (1, 2), axis=(1, 2)),
        lambda x: ops.repeat(x, 2, axis=1),
        lambda x: ops.repeat(x, 3, axis=-1),
        lambda x: ops.tile(x, (1, 2, 1, 1)),
        lambda x: ops.tile(x, (1, 2, 1, 3)),
        lambda x: ops.tile(x, (2, 2)),
        lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), "reflect"),
        lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), "symmetric"),
        lambda x: ops.image.resize(x, (3, 7)),
        lambda x: ops.image.resize(x, (3, 7), interpolation="nearest"),
        layers.Resizing(3, 7, crop_to_aspect_ratio=True),
    ],
    ids=range(16),
)
def test_channels_stay(step, tmp_path):
    rng = np.random.default_rng(0)
    model = checks.around(step)
    assert not checks.barriers(model)
    bias = [0.0, 0.5]
    assert checks.closed(model, rng, bias=bias, tmp_path=tmp_path) == 4


@pytest.mark.parametrize(
    "step",
    [
        lambda x: ops.average_pool(x, (2, 2), (1, 1), padding="same"),
        lambda x: ops.max_pool(x, (2, 1), (1, 2)),
    ],
    ids=["average", "max"],
)
def test_pools(step, tmp_path):
    rng = np.random.default_rng(0)
    model = checks.around(step)
    assert not checks.barriers(model)
    # On JAX, Keras cannot run these ops once they were loaded.
    path = tmp_path if keras.backend.backend() == "tensorflow" else None
    assert checks.closed(model, rng, bias=0.5, tmp_path=path) == 4


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="on JAX, Keras does not take lists here, and stores nothing else",
)
@pytest.mark.parametrize(
    "axis, repeats, left",
    [(2, [1, 0, 2, 3, 1], 4), (-1, [1, 2, 1, 1, 0, 1], 6)],
)
def test_some_are_repeated_more_often(axis, repeats, left, tmp_path):
    rng = np.random.default_rng(0)
    model = checks.around(lambda x: ops.repeat(x, repeats, axis=axis))
    assert checks.closed(model, rng, bias=0.5, tmp_path=tmp_path) == left
    assert len(checks.barriers(model)) == (left == 6)


PADS = ((0, 0), (1, 2), (0, 1), (0, 0))


@pytest.mark.parametrize(
    "step, constants",
    [
        (lambda x: ops.pad(x, PADS), [0.0, np.nan]),
        (lambda x: ops.pad(x, PADS, constant_values=0.5), [np.nan, 0.5]),
        (lambda x: ops.pad(x, PADS, constant_values=1.0), [np.nan, np.nan]),
        (lambda x: ops.image.resize(x, (3, 7), "bicubic"), [0.0, np.nan]),
        (
            lambda x: ops.image.resize(x, (9, 5), pad_to_aspect_ratio=True),
            [0.0, np.nan],
        ),
        (
            lambda x: ops.image.resize(
                x, (9, 5), pad_to_aspect_ratio=True, fill_value=0.5
            ),
            [np.nan, 0.5],
        ),
        (lambda x: ops.cumsum(x, axis=1), [0.0, np.nan]),
        (lambda x: ops.cumprod(x, axis=2), [0.0, np.nan]),
    ],
    ids=range(8),
)
def test_what_is_put_around(step, constants, tmp_path):
    rng = np.random.default_rng(0)
    model = checks.around(step)
    checks.closed(model, rng, bias=[0.0, 0.5], tmp_path=tmp_path)
    graph = checks.constants_of(model)
    np.testing.assert_array_equal(
        graph.nodes[1].output.constants[[1, 4]], constants
    )


@pytest.mark.parametrize(
    "shape, left", [((2, 4, 6), 4), ((2, 4, -1), 4), ((2, 4, 1), 4)]
)
def test_broadcast(shape, left):
    rng = np.random.default_rng(0)
    inputs = keras.Input((1, 3), batch_size=2)
    x = layers.Dense(6, name="before")(inputs)
    if shape[-1] == 1:
        x = ops.broadcast_to(ops.sum(x, -1, keepdims=True), (2, 4, 6))
    elif shape[-1] == 6:
        x = ops.broadcast_to(x, shape)
    x = layers.Flatten()(x)
    model = keras.Model(inputs, layers.Dense(2, name="all_after")(x))
    assert checks.closed(model, rng) == left


@pytest.mark.parametrize(
    "step, text",
    [
        (lambda x: ops.flip(x), "flips the batch"),
        (lambda x: ops.roll(x, 1), "rolls the channels"),
        (lambda x: ops.roll(x, 1, axis=-1), "rolls the channels"),
        (lambda x: ops.repeat(x, 2), "the flattened tensor"),
        (lambda x: ops.tile(x, (2, 1, 1, 1)), "adds axes"),
        (lambda x: ops.pad(x, ((0, 0), (0, 0), (0, 1))), "pads the batch or"),
        (lambda x: ops.cumsum(x, axis=-1), "cumulates over the channels"),
        (lambda x: ops.cumprod(x, axis=None), "cumulates over the batch"),
    ],
    ids=range(8),
)
def test_what_is_a_barrier(step, text):
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3), batch_size=2)
    x = layers.Dense(6, name="before")(inputs)
    model = keras.Model(inputs, step(x))
    assert checks.closed(model, rng) == 6
    (reason,) = checks.barriers(model).values()
    assert text in reason
