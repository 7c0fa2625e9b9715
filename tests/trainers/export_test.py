import keras
import numpy as np
import pytest

import l0keras
from l0keras import models
from trainers.export import export


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A gated model with closed gates, and its file."""
    model = models.mlp((4, 4, 1), 3, hidden=(6,), l0=0.1, seed=0)
    for gate in l0keras.gates_of(model):
        gate.log_alpha.assign(np.linspace(-4, 4, gate.log_alpha.shape[0]))
    path = tmp_path_factory.mktemp("export") / "model.keras"
    model.save(path)
    return model, str(path)


def test_both_formats_compute_what_the_model_does(saved, tmp_path):
    model, path = saved
    images = np.random.default_rng(0).random((5, 4, 4, 1), "float32")
    expected = model.predict(images, verbose=0)
    small = str(tmp_path / "small.keras")
    text = export(path, "stripped", small)
    assert "Selected: 'fc1' reads 12 of 16 channels" in text
    stripped = keras.saving.load_model(small)
    assert stripped.count_params() < model.count_params()
    outputs = stripped.predict(images, verbose=0)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)

    file = str(tmp_path / "small.tflite")
    assert f"{file}: " in export(path, "litert", file)
    outputs = l0keras.export.run_tflite(file, images)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize(
    "form, output, message",
    [
        ("onnx", "x.keras", "`format` must be one of stripped, litert"),
        ("litert", "x.keras", "`output` must end in .tflite"),
        ("stripped", None, "`output` must end in .keras"),
        ("stripped", "no/such/x.keras", "a folder that exists"),
    ],
)
def test_refused(form, output, message, saved):
    with pytest.raises(ValueError, match=message):
        export(saved[1], form, output)


def test_refuses_other_inputs(tmp_path):
    with pytest.raises(ValueError, match="`input` must be a .keras file"):
        export("m.tflite", "litert", str(tmp_path / "x.tflite"))
