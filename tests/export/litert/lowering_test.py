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


def decoder(up, rank=2, size=3):
    """Several enlargements, with layers that need to know the channels."""
    x = inputs = keras.Input((*[size] * rank, 2))
    conv = getattr(layers, f"Conv{rank}D")
    for _ in range(3):
        x = conv(2, 3, padding="same")(up(x))
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "up, rank, size",
    [
        (lambda x: layers.UpSampling2D((2, 1))(x), 2, 3),
        (lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x), 2, 3),
        (lambda x: layers.UpSampling2D(2)(x), 2, None),
        (lambda x: layers.UpSampling1D(2)(x), 1, 3),
        (lambda x: layers.UpSampling3D((2, 1, 2))(x), 3, 2),
        (lambda x: ops.repeat(x, 2, axis=-2), 2, 3),
        (lambda x: keras.Sequential([layers.UpSampling2D(2)])(x), 2, 3),
    ],
    ids=["2D", "bilinear", "free", "1D", "3D", "repeat", "nested"],
)
def test_any_number_of_examples_is_enlarged(up, rank, size, tmp_path):
    path = tmp_path / "model.tflite"
    model = decoder(up, rank, size)
    file = l0keras.export_tflite(
        model, path, sample_shape=(size or 4,) * rank + (2,)
    )
    assert file.max_difference < 1e-5
    x = np.random.default_rng(1).normal(size=(3, *[size or 5] * rank, 2))
    x = x.astype("float32")
    np.testing.assert_allclose(
        l0keras.export.run_tflite(path, x),
        model.predict(x, verbose=0),
        atol=1e-5,
    )


def test_images_are_enlarged_by_one_operation(tmp_path):
    path = tmp_path / "model.tflite"
    model = decoder(layers.UpSampling2D(2))
    l0keras.export_tflite(model, path, check=False)
    ops = [op for op, _ in tflite_ops(open_tflite(path, delegates=False))]
    assert ops.count("RESIZE_NEAREST_NEIGHBOR") == 3
    assert not {"SHAPE", "TILE", "BROADCAST_TO"} & set(ops)


@pytest.mark.parametrize(
    "key",
    [
        (..., None),
        (slice(None), None, ..., 1),
        (slice(None), 1, None, slice(1, 3), None),
        (slice(None), slice(0, 2)),
    ],
)
def test_parts_with_new_axes(key, tmp_path):
    inputs = keras.Input((4, None))
    model = keras.Model(inputs, inputs[key])
    path = tmp_path / "model.tflite"
    l0keras.export_tflite(model, path)
    x = np.random.default_rng(1).normal(size=(3, 4, 5)).astype("float32")
    np.testing.assert_array_equal(l0keras.export.run_tflite(path, x), x[key])
