import dataclasses
import os

import keras
import numpy as np
import pytest
from absl import flags

import l0keras
from l0keras import models
from l0keras.export.litert.run_tflite import open_tflite
from trainers import export as export_program
from trainers.export import export
from trainers.run.finetune import FineTuning


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A gated model with closed gates, and its file."""
    model = models.mlp((4, 4, 1), 3, hidden=(6,), gates="paper", seed=0)
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


def test_int8_files_take_their_ranges_from_the_data(saved, tmp_path, digits):
    model, path = saved
    data = dataclasses.replace(
        digits,
        train_images=digits.train_images[:, ::2, ::2],
        test_images=digits.test_images[:, ::2, ::2],
    )
    file = str(tmp_path / "small.tflite")
    text = export(path, "litert", file, "int8", data=data)
    assert f"{file}: {os.path.getsize(file):,} bytes" in text
    images = data.scale(data.test_images).numpy()
    outputs = l0keras.export.run_tflite(file, images)
    expected = model.predict(images, verbose=0)
    assert 0 < np.abs(outputs - expected).max() < 0.05 * np.abs(expected).max()
    images = data.sample(export_program.REPRESENTATIVE)
    assert images.shape == (479, 4, 4, 1) and images.max() == 1.0
    np.testing.assert_array_equal(
        images[1], data.train_images[3].astype("float32") / 16
    )


def test_refuses_other_inputs(tmp_path):
    with pytest.raises(ValueError, match="`input` must be a .keras file"):
        export("m.tflite", "litert", str(tmp_path / "x.tflite"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"mode": "int4"}, "`quantization` must be one of float32, float16"),
        ({"mode": "int8"}, "`representative_data` must be given"),
        ({"form": "stripped", "mode": "int8"}, "are for --format=litert"),
        (
            {"tuning": FineTuning(quantize_epochs=1)},
            "`quantization` must be int8 where `quantize_epochs`",
        ),
        ({"mode": "int8", "sparse_encoding": True}, "`sparse_encoding` must"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, message, saved, tmp_path):
    form = arguments.pop("form", "litert")
    output = tmp_path / ("x.keras" if form == "stripped" else "x.tflite")
    data = "unused" if "sparse_encoding" in arguments else None
    with pytest.raises(ValueError, match=message):
        export(saved[1], form, str(output), data=data, **arguments)
    assert not os.listdir(tmp_path)


def test_flags_reach_the_file(saved, tmp_path, capsys, monkeypatch):
    values = flags.FlagValues()
    export_program.define_flags(values)
    flags.DEFINE_integer("verbosity", -1, "As absl.", flag_values=values)
    output = str(tmp_path / "m.tflite")
    argv = [
        "export",
        f"--input={saved[1]}",
        f"--output={output}",
        "--quantization=dynamic",
        "--fixed_batch_size=1",
    ]
    monkeypatch.setattr(export_program, "FLAGS", values)
    export_program.main(values(argv))
    assert f"{output}: " in capsys.readouterr().out
    details = open_tflite(output).get_input_details()
    assert list(details[0]["shape_signature"]) == [1, 4, 4, 1]
    with pytest.raises(SystemExit, match="`dataset` must say what to fine-t"):
        export_program.main(values([*argv, "--quantization=int8"]))
    with pytest.raises(SystemExit, match="`clusters` must be at least 2"):
        export_program.main(values([*argv, "--clusters=1"]))
