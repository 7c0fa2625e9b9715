"""Functions of Keras in other forms, in graphs and in layers of one's own."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.export.litert.run_tflite import open_tflite
from l0keras.export.litert.unsupported import tflite_ops

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


class Own(layers.Layer):
    """A function in the middle of a `call`, which no graph shows."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.argmax(x, axis=-1),
        lambda x: ops.argmin(x, axis=1, keepdims=True),
        lambda x: ops.cumprod(x, axis=2),
        lambda x: ops.roll(x, (-1, 5), axis=(1, 2)),
        lambda x: ops.roll(x, 2, axis=-1),
        lambda x: ops.image.extract_patches(x, (2, 4)),
        lambda x: ops.image.extract_patches(x, 3),
        lambda x: ops.image.extract_patches(x, 2, strides=1),
        lambda x: ops.image.extract_patches(x, 4, padding="same"),
    ],
    ids="argmax argmin cumprod axes roll uneven cut overlap same".split(),
)
def test_outputs_are_the_same(function, tmp_path):
    inputs = keras.Input((8, 8, 3))
    outputs = {"graph": function(inputs), "own": Own(function)(inputs)}
    model = keras.Model(inputs, outputs)
    path = tmp_path / "model.tflite"
    l0keras.export_tflite(model, path)
    x = np.random.default_rng(1).normal(size=(5, 8, 8, 3)).astype("float32")
    expected = model.predict(x, verbose=0)
    for name, got in l0keras.export.run_tflite(path, x).items():
        np.testing.assert_allclose(got, expected[name], atol=1e-6)


def test_patches_need_no_kernel(tmp_path):
    path = tmp_path / "model.tflite"
    inputs = keras.Input((32, 32, 3))
    patches = Own(lambda x: ops.image.extract_patches(x, 8))(inputs)
    model = keras.Model(inputs, layers.Dense(4)(patches))
    file = l0keras.export_tflite(model, path, check=False)
    found = {op for op, _ in tflite_ops(open_tflite(path, delegates=False))}
    assert "CONV_2D" not in found
    # With ones and zeros it were 4 * (8 * 8 * 3) ** 2 more.
    assert file.bytes < 10_000


def test_keras_is_as_before():
    before = keras.src.backend.numpy.argmax
    model = keras.Sequential([keras.Input((3,)), layers.Softmax()])
    source = l0keras.export.litert.source.source(model)
    with source.as_in_file(None):
        assert keras.src.backend.numpy.argmax is not before
    assert keras.src.backend.numpy.argmax is before
