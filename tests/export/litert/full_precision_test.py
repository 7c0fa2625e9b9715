import keras
import numpy as np
import pytest
from keras import layers

import l0keras

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_becomes_single(policy, tmp_path):
    inputs = keras.Input((6, 8))
    x = layers.GRU(5, return_sequences=True, dtype=policy)(inputs)
    x = layers.MultiHeadAttention(2, 4, dtype=policy)(x, x)
    x = layers.LayerNormalization(dtype=policy)(x)
    x = layers.Conv1D(3, 2, activation="relu", dtype=policy)(x)
    model = keras.Model(inputs, layers.Dense(2, dtype="float32")(x))
    file = l0keras.export_tflite(model, tmp_path / "model.tflite")
    # As exact as other files, from the model in float32.
    assert file.max_difference < 1e-5
    assert 1e-4 < file.precision_difference < 0.1
    assert "computes in float32 where the model has half" in str(file)
    assert model.layers[1].dtype_policy.name == policy
    assert model.layers[1].cell.dtype_policy.name == policy


def test_single_precision_has_no_such_difference(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    file = l0keras.export_tflite(model, tmp_path / "model.tflite")
    assert file.precision_difference is None


def test_double_precision_is_refused(tmp_path):
    for dtype, text in (("float64", "input 'x'"), ("float32", "layer 'fc'")):
        inputs = keras.Input((3,), dtype=dtype, name="x")
        layer = layers.Dense(2, name="fc", dtype="float64")
        text = "layer 'fc'" if dtype == "float32" else "input 'x'"
        with pytest.raises(ValueError, match=f"set_weights.*{text} in float64"):
            l0keras.export_tflite(
                keras.Model(inputs, layer(inputs)), tmp_path / "model.tflite"
            )


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not")
def test_models_quantized_by_keras_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="fc")])
    model.quantize("int8")
    x = np.ones((32, 3), "float32")
    for mode in (None, "int8"):
        with pytest.raises(ValueError, match="'fc' quantized to 'int8'"):
            l0keras.export_tflite(model, tmp_path / "m.tflite", mode, x)
