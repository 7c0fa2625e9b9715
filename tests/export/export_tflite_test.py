import gzip
import os
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.export import run_tflite
from l0keras.layers import L0Conv2D
from l0keras.layers import L0Dense

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


def gated_model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L0Conv2D(6, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            L0Dense(10, activation="sigmoid"),
            layers.Dropout(0.5),
            L0Dense(3, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(0)
    for gate in l0keras.gates_of(model):
        shape = gate.log_alpha.shape
        gate.log_alpha.assign(
            np.where(rng.random(shape) < 0.5, -5.0, rng.normal(size=shape))
        )
    return model


def test_the_file_computes_what_the_gated_model_does(tmp_path):
    model = gated_model()
    path = tmp_path / "model.tflite"
    file = l0keras.export_tflite(model, path)
    x = np.random.default_rng(1).normal(size=(5, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(
        run_tflite(path, x), model(x, training=False), atol=1e-5
    )
    assert file.path == str(path)
    assert file.bytes == path.stat().st_size
    assert file.gzip_bytes == len(gzip.compress(path.read_bytes(), mtime=0))
    assert 0 < file.latency_us < 1e6
    assert 0 <= file.max_difference <= 1e-5
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_several_inputs_and_outputs(tmp_path):
    inputs = {
        "zoo": keras.Input((4,), name="zoo"),
        "ant": keras.Input((3,), name="ant"),
    }
    x = layers.Concatenate()([L0Dense(5)(inputs["zoo"]), inputs["ant"]])
    outputs = [layers.Dense(2)(x), layers.Dense(1)(x), x]
    model = keras.Model(inputs, outputs)
    path = tmp_path / "model.tflite"
    l0keras.export_tflite(model, path)
    rng = np.random.default_rng(1)
    data = {
        "zoo": rng.normal(size=(7, 4)).astype("float32"),
        "ant": rng.normal(size=(7, 3)).astype("float32"),
    }
    expected = model(data, training=False)
    got = run_tflite(path, data, batch_size=3)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_integer_inputs(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(5, 3),
            layers.Flatten(),
            L0Dense(2),
        ]
    )
    file = l0keras.export_tflite(model, tmp_path / "model.tflite")
    assert file.max_difference <= 1e-5


class Forgetful(keras.Model):
    """Gives an export that is not what the model computes."""

    def export(self, filepath, **kwargs):
        other = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        other.export(filepath, **kwargs)


def test_a_file_that_strays_is_not_written(tmp_path):
    inputs = keras.Input((3,))
    model = Forgetful(inputs, layers.Dense(2)(inputs))
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the last good file")
    with pytest.raises(RuntimeError, match="differs from the model by"):
        l0keras.export_tflite(model, path)
    assert path.read_bytes() == b"the last good file"
    assert os.listdir(tmp_path) == ["model.tflite"]


class Inexact(keras.Model):
    """Makes much of small differences, and exports weights that are off."""

    factor = 1.0

    def export(self, filepath, **kwargs):
        other = keras.models.clone_model(self)
        other.set_weights([self.factor * w for w in self.get_weights()])
        keras.Model.export(
            keras.Model(other.inputs, other.outputs), filepath, **kwargs
        )


@pytest.mark.parametrize("off, passes", [(1e-6, True), (1e-3, False)])
def test_rounding_errors_may_grow_as_in_the_model(off, passes, tmp_path):
    inputs = keras.Input((3,))
    x = layers.Dense(2, use_bias=False)(inputs)
    model = Inexact(inputs, keras.ops.sin(1000.0 * x))
    model.factor = 1.0 + off
    path = tmp_path / "model.tflite"
    if passes:
        assert l0keras.export_tflite(model, path).max_difference > 1e-4
    else:
        with pytest.raises(RuntimeError, match="differs from the model by"):
            l0keras.export_tflite(model, path)


def test_a_failed_conversion_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(self, filepath, **kwargs):
        with open(filepath, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    model = gated_model()
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the last good file")
    monkeypatch.setattr(keras.Model, "export", fail)
    with pytest.raises(OSError, match="disk full"):
        l0keras.export_tflite(model, path)
    assert path.read_bytes() == b"the last good file"
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_outputs_that_are_not_finite_are_refused(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2), layers.Rescaling(float("nan"))]
    )
    with pytest.raises(RuntimeError, match="differs from the model by nan"):
        l0keras.export_tflite(model, tmp_path / "model.tflite")


def test_nothing_is_printed_and_state_comes_back(tmp_path, capfd):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    filters = list(warnings.filters)
    l0keras.export_tflite(model, tmp_path / "model.tflite")
    assert capfd.readouterr() == ("", "")
    assert warnings.filters == filters
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


@pytest.mark.parametrize("name", ["model.lite", "missing/model.tflite"])
def test_the_path_is_checked_first(tmp_path, name):
    with pytest.raises(ValueError, match="Argument `path`"):
        l0keras.export_tflite("no model", tmp_path / name)


def test_models_without_a_graph_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Argument `model`"):
        l0keras.export_tflite("no model", tmp_path / "model.tflite")
