import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.export.litert.source import KerasSource

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)

X = np.random.default_rng(0).normal(size=(64, 4, 8)).astype("float32")
MAKERS = {
    "layer": layers.LayerNormalization,
    "axes": lambda: layers.LayerNormalization(axis=(1, 2)),
    "bare": lambda: layers.LayerNormalization(center=False, scale=False),
    "groups": lambda: layers.GroupNormalization(2),
    "first": lambda: layers.GroupNormalization(2, axis=1),
    "rms": layers.RMSNormalization,
    "unit": layers.UnitNormalization,
    "elu": lambda: layers.ELU(0.5),
    "dense": lambda: layers.Dense(5, activation="elu"),
    "selu": lambda: layers.Activation("selu"),
    "op": lambda: lambda x: ops.selu(x) + ops.elu(x, 0.3) + ops.square(x),
}


def model_of(*makers):
    x = inputs = keras.Input((4, 8))
    for make in makers:
        x = make()(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(0.4 * rng.normal(size=weight.shape))
    return model


@pytest.mark.parametrize("name", MAKERS)
def test_the_other_form_computes_the_same(name):
    model = model_of(MAKERS[name])
    origin = KerasSource(model)
    with origin.as_in_file("int8"):
        found = origin.call([X])
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(list(found.values())[0], expected, atol=1e-5)
    assert all("call" not in vars(op) for op in model.operations)


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_integers_stay_integers(mode, tmp_path):
    model = model_of(
        lambda: layers.Dense(8, activation="elu"),
        layers.LayerNormalization,
        layers.RMSNormalization,
        lambda: layers.Activation("gelu"),
        lambda: layers.GroupNormalization(2),
        lambda: layers.Dense(3, activation="softmax"),
    )
    file = l0keras.export_tflite(
        model, tmp_path / "m.tflite", mode, X, integer_only=True
    )
    assert file.float_ops == ()
    assert file.max_difference < 0.15


def test_floats_in_integer_files_are_named(tmp_path):
    class Sine(layers.Layer):
        def call(self, x):
            return ops.sin(x)

    model = model_of(
        lambda: layers.Dense(8),
        lambda: Sine(name="wave"),
        lambda: layers.Dense(2),
    )
    path = tmp_path / "m.tflite"
    file = l0keras.export_tflite(model, path, "int8", X)
    assert file.float_ops == ("SIN of layer 'wave'",)
    assert "computes in floats: SIN of layer 'wave'" in str(file)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="in floats: SIN of layer 'wave'"):
        l0keras.export_tflite(
            model, path, "int8", X, check=False, integer_only=True
        )
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="`integer_only` must be False"):
        l0keras.export_tflite(model, path, "dynamic", integer_only=True)
