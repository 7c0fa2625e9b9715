import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.export import run_tflite

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.tflite"
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2, kernel_initializer="ones", use_bias=False),
        ]
    )
    l0keras.export_tflite(model, path)
    return path


@pytest.mark.parametrize("batch_size", [None, 1, 3, 100])
def test_batches(path, batch_size):
    x = np.arange(21, dtype="float32").reshape(7, 3)
    sums = np.repeat(x.sum(axis=1, keepdims=True), 2, axis=1)
    np.testing.assert_allclose(run_tflite(path, x, batch_size), sums)


@pytest.mark.parametrize(
    "inputs, text",
    [
        (np.zeros((2, 4), "float32"), r"shape \(batch, 3\)"),
        (np.zeros((2, 3, 1), "float32"), r"shape \(batch, 3\)"),
        (np.zeros((2, 3), "float64"), "dtype float32"),
        (np.zeros((0, 3), "float32"), "at least 1"),
        ({"y": np.zeros((2, 3), "float32")}, "must have the keys"),
    ],
)
def test_inputs_are_checked(path, inputs, text):
    with pytest.raises(ValueError, match=text):
        run_tflite(path, inputs)


def test_other_arguments_are_checked(path, tmp_path):
    x = np.zeros((2, 3), "float32")
    with pytest.raises(ValueError, match="no such file"):
        run_tflite(tmp_path / "none.tflite", x)
    for threads in (0, 1.5):
        with pytest.raises(ValueError, match="num_threads"):
            run_tflite(path, x, num_threads=threads)
    with pytest.raises(ValueError, match="batch_size"):
        run_tflite(path, x, batch_size=-1)
