import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.graph.rules import checks


def merged(parts):
    x = layers.Add()(list(parts))
    return layers.Dense(2, name="all_after")(x)


@pytest.mark.parametrize(
    "step, left",
    [
        (lambda x: ops.split(x, 2, axis=-1), 4),
        (lambda x: ops.split(x, [3], axis=-1), 4),
        (lambda x: ops.split(x, 2, axis=1), 4),
        (lambda x: ops.array_split(x, 2, axis=-1), 4),
        (lambda x: ops.unstack(x, axis=1), 4),
        # A sum over channels, of which all but zeros have a part.
        (lambda x: ops.unstack(x, axis=-1), 6),
    ],
    ids=range(6),
)
@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_parts_are_cut(step, left, bias, tmp_path):
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3))
    x = layers.Dense(6, name="before")(inputs)
    model = keras.Model(inputs, merged(step(x)))
    assert not checks.barriers(model)
    # Units 1 and 4 are the same place in both halves.
    units = checks.closed(model, rng, bias=bias, tmp_path=tmp_path)
    assert units == left


def test_a_part_that_nobody_needs_goes():
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3))
    x = layers.Dense(6, name="before")(inputs)
    first, _, last = ops.split(x, 3, axis=-1)
    model = keras.Model(inputs, [layers.Dense(2, name="all_a")(first), last])
    checks.randomize(model, rng, closed=0.0)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").units == 4


def test_a_split_with_names_that_are_taken():
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3))
    x = layers.Dense(6, name="before")(inputs)
    parts = ops.split(x, 2, axis=-1)
    name = parts[0]._keras_history.operation.name
    x = layers.Activation("relu", name=f"{name}_0")(parts[0])
    x = layers.Add()([x, parts[1]])
    model = keras.Model(inputs, layers.Dense(2, name="all_after")(x))
    assert checks.closed(model, rng) == 4


@pytest.mark.parametrize(
    "step",
    [
        lambda x: ops.split(x, 2, axis=0),
        lambda x: ops.unstack(x, axis=0),
    ],
    ids=range(2),
)
def test_what_stays_a_barrier(step):
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3), batch_size=2)
    x = layers.Dense(6, name="before")(inputs)
    outputs = list(step(x))
    model = keras.Model(inputs, outputs)
    assert checks.closed(model, rng) == 6
    assert len(checks.barriers(model)) == 1
