import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.export.litert.selections import selections
from l0keras.export.litert.source import KerasSource

if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT files need TensorFlow", allow_module_level=True)

X = np.random.default_rng(0).normal(size=(64, 6, 30)).astype("float32")
FEW = [0, 2, 3, 17, 29]
MANY = list(range(0, 30, 2))


def dense(x):
    return layers.Dense(3)(ops.take(x, FEW, axis=-1))


def twice(x):
    part = ops.take(x, [5, -1, 5], axis=2)
    return [layers.Dense(3)(part), layers.Conv1D(2, 3)(part)]


def activated(x):
    return layers.Dense(3)(layers.ReLU()(ops.take(x, MANY, axis=-1)))


def output(x):
    part = ops.take(x, FEW, axis=-1)
    return [part, layers.Dense(3)(part)]


def positions(x):
    return layers.Dense(3)(ops.take(x, [1, 2, 5], axis=1))


def shared(x):
    layer = layers.Dense(3)
    return layer(ops.take(x, FEW, axis=-1)) + layer(ops.take(x, FEW, axis=-1))


def inner(x):
    inside = keras.Input(x.shape[1:])
    return keras.Model(inside, dense(inside))(x)


CASES = {
    dense: True,
    twice: True,
    inner: True,
    activated: False,
    output: False,
    positions: False,
    shared: False,
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_the_same_is_computed(make):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(X.shape[1:])
    model = keras.Model(inputs, make(inputs))
    changes = selections(model)
    names = {name for _, name, _ in changes}
    assert ("_kernel" in names) == CASES[make] and "call" in names
    origin = KerasSource(model, "micro")
    with origin.as_in_file("int16x8"):
        found = origin.call([X])
    expected = keras.tree.flatten(model.predict(X, verbose=0))
    for one, other in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    again = keras.tree.flatten(model.predict(X, verbose=0))
    for one, other in zip(again, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_indices_that_are_tensors_stay():
    inputs = keras.Input((30,)), keras.Input((), dtype="int32")
    model = keras.Model(inputs, ops.take(*inputs, axis=1))
    assert selections(model) == []


def test_slices_run(tmp_path):
    pytest.importorskip("tflite_micro")
    inputs = keras.Input(X.shape[1:])
    model = keras.Model(inputs, activated(inputs))
    file = l0keras.export_tflite(
        model, tmp_path / "m.tflite", "int16x8", X, target="micro"
    )
    assert {"AddStridedSlice", "AddConcatenation"} < set(file.micro.ops)
