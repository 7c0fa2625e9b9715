"""The LSTM, on frames of speech and on images row by row, end to end."""

import csv
import os

import keras
import numpy as np
import pytest
from absl import flags

import l0keras
from trainers import evaluate
from trainers.data import input_pipeline
from trainers.data import speech
from trainers.data.phones import IGNORED
from trainers.export import export
from trainers.run.callbacks import Progress
from trainers.run.config import Config
from trainers.run.training import train

SPEECH = Config(
    model="lstm",
    dataset="timit",
    method="dense",
    epochs=2,
    batch_size=20,
    learning_rate=0.01,
    ema_momentum=0.0,
)
# Steps of a sequence, for which the unrolled file is written faster.
FRAMES = 10


def stop(self, epoch, logs=None):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(timit, tmp_path_factory):
    """A run on short sequences that was stopped and resumed, and its data."""
    workdir = tmp_path_factory.mktemp("trained")
    where = {"data_dir": timit.data_dir, "manual_dir": timit.manual_dir}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech, "FRAMES", FRAMES)
        with pytest.MonkeyPatch.context() as interrupted:
            interrupted.setattr(Progress, "on_epoch_end", stop)
            with pytest.raises(KeyboardInterrupt):
                train(SPEECH, workdir, **where)
        report = train(SPEECH, workdir, **where)
        data = input_pipeline.load("timit", **where)
    return workdir, report, data


def test_frames_that_count_are_counted(trained):
    workdir, report, data = trained
    assert data.input_shape == (FRAMES, 39)
    model = keras.saving.load_model(workdir / "stripped.keras")
    assert model.output_shape == (None, FRAMES, 39)
    logits = model.predict(data.test_images, verbose=0)
    counted = data.test_labels != IGNORED
    # Padding and glottal stops are many.
    assert 0.3 < counted.mean() < 0.95
    wrong = logits.argmax(-1) != data.test_labels
    error = 100 * wrong[counted].mean()
    assert report["test_error"]["dense"] == pytest.approx(error)
    assert report["test_error"]["tflite"] == pytest.approx(error)
    assert report["max_difference"]["tflite"] < 1e-4
    with open(workdir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    # What validation counts is what the report does.
    accuracy = float(rows[-1]["val_accuracy"])
    assert 100 * (1 - accuracy) == pytest.approx(error, abs=1e-3)
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


def test_report_of_frames(trained):
    _, report, _ = trained
    params = 4 * 200 * (39 + 200 + 1) + 201 * 39
    assert report["params"]["dense"] == params
    assert report["macs"]["dense"] == FRAMES * (800 * 239 + 200 * 39)
    assert report["architecture"] == "200"


def test_learns_which_frames_are_which(trained):
    _, report, data = trained
    labels = data.test_labels[data.test_labels != IGNORED]
    most = 100 * (1 - np.bincount(labels).max() / len(labels))
    assert report["test_error"]["dense"] < most


def test_evaluate_and_export(trained, timit, tmp_path, capsys, monkeypatch):
    workdir, report, data = trained
    monkeypatch.setattr(speech, "FRAMES", FRAMES)
    values = flags.FlagValues()
    evaluate.define_flags(values)
    values(
        [
            "evaluate",
            f"--input={workdir}",
            f"--data_dir={timit.data_dir}",
        ]
    )
    monkeypatch.setattr(evaluate, "FLAGS", values)
    evaluate.main(["evaluate"])
    found = capsys.readouterr().out
    error = report["test_error"]["dense"]
    assert found.count(f"test error {error:.2f} %") == 3
    path = str(tmp_path / "int8.tflite")
    export(str(workdir / "model.keras"), "litert", path, "int8", data=data)
    logits = l0keras.export.run_tflite(path, data.test_images)
    exact = keras.saving.load_model(workdir / "model.keras")
    exact = exact.predict(data.test_images, verbose=0)
    assert np.abs(logits - exact).max() < 0.2 * np.abs(exact).max()
    assert os.path.getsize(path) < report["bytes"]["tflite"] / 2


def test_images_row_by_row(tmp_path):
    config = Config(
        model="lstm",
        dataset="digits",
        method="dense",
        epochs=2,
        batch_size=100,
        learning_rate=0.01,
        ema_momentum=0.0,
    )
    report = train(config, tmp_path)
    assert set(report["test_error"]) == {"dense", "stripped", "tflite"}
    assert report["test_error"]["tflite"] == report["test_error"]["dense"] < 50
    assert report["params"]["dense"] == 4 * 128 * (8 + 128 + 1) + 1290
    assert report["max_difference"]["tflite"] < 1e-4


@pytest.mark.slow
def test_frames_of_full_length(timit, tmp_path):
    report = train(
        SPEECH,
        tmp_path,
        data_dir=timit.data_dir,
        manual_dir=timit.manual_dir,
    )
    assert report["max_difference"]["tflite"] < 1e-4
    assert report["macs"]["dense"] == 100 * (800 * 239 + 200 * 39)
