import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.graph.rules import checks


def build(shape, *steps):
    x = inputs = keras.Input(shape)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


def closed(model, rng, bias=0.5, tmp_path=None):
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4], bias)
    return checks.check(model, rng, tmp_path).get_layer("before").units


@pytest.mark.parametrize(
    "step",
    [
        layers.Permute((2, 1, 3)),
        layers.Permute((3, 1, 2)),
        lambda x: ops.transpose(x, (0, 2, 3, 1)),
        lambda x: ops.transpose(x, (0, -1, 1, 2)),
        lambda x: ops.swapaxes(x, 1, 2),
        lambda x: ops.swapaxes(x, -1, -3),
        lambda x: ops.moveaxis(x, -1, 1),
        lambda x: ops.moveaxis(x, 1, -1),
        lambda x: ops.moveaxis(x, (1, 2), (2, 3)),
        lambda x: ops.expand_dims(x, 1),
        lambda x: ops.expand_dims(x, -1),
        lambda x: ops.expand_dims(x, (1, -1)),
        lambda x: ops.squeeze(ops.expand_dims(x, 2), 2),
        lambda x: ops.squeeze(ops.expand_dims(x, (1, -1))),
        lambda x: ops.squeeze(ops.expand_dims(x, (1, -1)), (1, -1)),
    ],
    ids=range(15),
)
def test_axes_move_and_the_channels_with_them(step, tmp_path):
    rng = np.random.default_rng(0)
    model = build(
        (2, 3, 4),
        layers.Dense(6, name="before"),
        step,
        layers.Activation("sigmoid"),
        layers.Flatten(),
        layers.Dense(2, name="all_after"),
    )
    assert not checks.barriers(model)
    assert closed(model, rng, [0.0, 0.5], tmp_path) == 4


def test_squeeze_leaves_a_single_channel_that_is_left():
    rng = np.random.default_rng(0)
    model = build(
        (3, 4),
        layers.Dense(6, name="before"),
        lambda x: ops.expand_dims(x, 1),
        ops.squeeze,
        layers.Dense(2, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [0, 1, 3, 4, 5])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").units == 1


def test_repeat_vector(tmp_path):
    rng = np.random.default_rng(0)
    model = build(
        (4,),
        layers.Dense(6, name="before"),
        layers.RepeatVector(3),
        layers.Conv1D(5, 2, name="all_after"),
    )
    assert closed(model, rng, tmp_path=tmp_path) == 4


@pytest.mark.parametrize(
    "step, text",
    [
        (lambda x: ops.transpose(x), "moves the batch"),
        (lambda x: ops.swapaxes(x, 0, 1), "moves the batch"),
        (lambda x: ops.moveaxis(x, 0, -1), "moves the batch"),
        (lambda x: ops.expand_dims(x, 0), "moves the batch"),
        (lambda x: ops.squeeze(x[..., :1], -1), "takes away the axis"),
    ],
    ids=range(5),
)
def test_what_moves_more_is_a_barrier(step, text):
    rng = np.random.default_rng(0)
    inputs = keras.Input((3, 4), batch_size=2)
    x = layers.Dense(6, name="before")(inputs)
    model = keras.Model(inputs, step(x))
    checks.randomize(model, rng, closed=0.0)
    checks.check(model, rng)
    assert any(text in reason for reason in checks.barriers(model).values())


def test_what_moves_channels_away_from_a_layer_is_the_barrier():
    """The mixing of patches in an MLP-Mixer: its dense layers are cut."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 3))
    x = layers.Dense(5, name="before")(inputs)
    x = layers.ReLU()(layers.Permute((2, 1), name="there")(x))
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    x = layers.Dense(6, name="all_mixed")(x)
    x = layers.Permute((2, 1), name="back")(x)
    x = layers.Dense(2, name="all_after")(x)
    model = keras.Model(inputs, x)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("hidden"), [0, 3, 4])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("hidden").units == 5
    barriers = checks.barriers(model)
    assert set(barriers) == {"there", "back"}
    assert "a later layer has other ones" in barriers["there"]


def test_a_series_of_features_is_convolved():
    rng = np.random.default_rng(0)
    model = build(
        (4,),
        layers.Dense(6, name="before"),
        lambda x: ops.expand_dims(x, -1),
        layers.Conv1D(5, 3, name="conv"),
        layers.Conv1D(2, 1, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("conv"), [1, 4])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("conv").filters == 3
