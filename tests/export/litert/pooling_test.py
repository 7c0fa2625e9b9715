import keras
import numpy as np
import pytest

import l0keras
from l0keras.export.litert.pooling import pool_3d

layers = keras.layers


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [None, (1, 2, 3)])
@pytest.mark.parametrize("kind", [layers.MaxPooling3D, layers.AveragePooling3D])
def test_pools_twice_in_two_dimensions(kind, strides, padding):
    layer = kind((2, 3, 2), strides, padding)
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 6, 3))
    x = x.astype("float32")
    np.testing.assert_allclose(pool_3d(x, layer), layer(x), atol=1e-6)


def test_volumes_have_files(tmp_path):
    inputs = keras.Input((6, 8, 8, 1))
    x = layers.Conv3D(4, 3, padding="same")(inputs)
    x = layers.MaxPooling3D(2)(x)
    x = layers.AveragePooling3D((1, 2, 2), padding="same")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    file = l0keras.export_tflite(model, tmp_path / "model.tflite")
    assert file.max_difference < 1e-5
