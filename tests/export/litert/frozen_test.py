import random

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.export.litert.frozen import convert_frozen
from l0keras.export.litert.run_tflite import open_tflite

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


def run(content, inputs):
    interpreter = open_tflite(content)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    for one, array in zip(details, inputs, strict=True):
        interpreter.set_tensor(one["index"], array.astype(one["dtype"]))
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    return interpreter.get_tensor(output["index"]), output["quantization"]


def test_it_computes_what_the_model_does():
    inputs = [keras.Input((6, 4), name="a"), keras.Input((6, 4), name="b")]
    x = layers.LSTM(5)(layers.Add()(inputs))
    model = keras.Model(inputs, layers.Dense(3)(x))
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(1, 6, 4)).astype("float32") for _ in inputs]
    found, _ = run(convert_frozen(model), arrays)
    np.testing.assert_allclose(
        found, model.predict(arrays, verbose=0), atol=1e-6
    )
    # Its loops are rolled up again.
    assert not model.layers[3].unroll


@pytest.mark.parametrize("quantization", [None, "float16", "dynamic", "int8"])
def test_it_is_as_large_as_the_checked_file(tmp_path, quantization):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3)(inputs)
    x = layers.BatchNormalization()(x)
    model = keras.Model(inputs, layers.ReLU()(x))
    data = None
    if quantization == "int8":
        data = np.random.default_rng(0).normal(size=(32, 8, 8, 3))
        data = data.astype("float32")
    path = tmp_path / "file.tflite"
    file = l0keras.export_tflite(model, path, quantization, data, check=False)
    state = random.getstate()
    content = convert_frozen(model, quantization)
    # All but the signature.
    assert len(content) == pytest.approx(file.bytes, abs=300)
    assert random.getstate() == state


def test_integers_are_integers():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    _, (scale, _) = run(convert_frozen(model, "int8"), [np.ones((1, 4))])
    assert scale > 0
