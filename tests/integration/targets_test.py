"""Trainings that are asked for a size."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest

from trainers.run import tables
from trainers.run.callbacks import Progress
from trainers.run.config import Config
from trainers.run.dense import with_dense
from trainers.run.optimizers import make_optimizer
from trainers.run.optimizers import make_tuning_optimizer
from trainers.run.training import Training
from trainers.run.training import train

GROUPS = Config(
    model="mlp",
    dataset="digits",
    method="wgsef",
    target_params=0.2,
    epochs=2,
    finetune_epochs=1,
    batch_size=300,
    optimizer="sgd",
    learning_rate=0.1,
    ema_momentum=0.0,
)


@pytest.mark.parametrize(
    "method, shrink",
    [("wgsef", False), ("hspg", True), ("group_lasso", False)],
)
def test_groups_end_at_the_size(method, shrink, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "l0keras.shrinking.shrinking.steps_of_a_cut", lambda *_: 0.0
    )
    config = dataclasses.replace(GROUPS, method=method, shrink=shrink)
    if shrink:
        # The groups that go are chosen after two epochs, and one is left.
        config = dataclasses.replace(config, finetune_epochs=3)
    report = train(config, tmp_path)
    state = np.load(tmp_path / "checkpoint.npz")
    assert ("shrinking" in json.loads(str(state["meta"]))) == shrink
    if shrink:
        assert json.loads(str(state["meta"]))["shrinking"]["cuts"]
    sizes = report["targets"]["params"]
    assert sizes["asked"] == 0.2 * report["params"]["dense"]
    assert sizes["reached"] == report["params"]["stripped"] <= sizes["asked"]
    # Groups that the penalty has closed do not come back.
    if method == "wgsef":
        assert sizes["reached"] > 0.9 * sizes["asked"]
    small = keras.saving.load_model(tmp_path / "stripped.keras")
    assert small.count_params() == sizes["reached"]


def test_groups_fit_several_sizes(tmp_path):
    config = dataclasses.replace(GROUPS, target_params=0.0, target_macs=4000.0)
    config = dataclasses.replace(config, target_units=60.0)
    report = train(config, tmp_path)
    assert set(report["targets"]) == {"macs", "units"}
    assert report["macs"]["stripped"] <= 4000
    for size in report["targets"].values():
        assert size["reached"] <= size["asked"]


@pytest.mark.parametrize("method", ["deep_r", "static"])
def test_connections_are_as_many_as_asked(method, tmp_path):
    config = Config(
        model="mlp",
        dataset="digits",
        method=method,
        target_params=1500.0,
        epochs=2,
        batch_size=300,
        optimizer="sgd",
        learning_rate=0.1,
        ema_momentum=0.0,
    )
    report = train(config, tmp_path)
    sizes = report["targets"]["params"]
    assert sizes["asked"] == 1500
    model = keras.saving.load_model(tmp_path / "model.keras")
    left = sum(
        v.shape[-1] if v.name == "bias" else np.count_nonzero(v.numpy())
        for v in model.variables
    )
    # One that has just been opened has the weight 0.
    assert 1400 < left == sizes["reached"] <= 1500


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target_params": 9.0}, "`target` must ask for at least 87 params"),
        (
            {
                "method": "deep_r",
                "finetune_epochs": 0,
                "target_params": 400.0,
            },
            "`target` must ask for at least ",
        ),
    ],
)
def test_refuses_sizes_that_cannot_be_reached(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Training(dataclasses.replace(GROUPS, **changes), tmp_path)
    assert not (tmp_path / "config.json").exists()


GATES = Config(
    model="mlp",
    dataset="digits",
    target_params=0.1,
    epochs=8,
    finetune_epochs=3,
    batch_size=100,
    learning_rate=0.01,
    ema_momentum=0.9,
    seed=1,
)


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A finished run that was cut: its folder and its report."""
    workdir = tmp_path_factory.mktemp("cut")
    return workdir, train(GATES, workdir)


def test_gates_end_at_the_size(cut, digits):
    workdir, report = cut
    sizes = report["targets"]["params"]
    dense = 64 * 300 + 300 * 100 + 1000 + 410
    assert sizes["asked"] == 0.1 * dense
    assert 0.97 * sizes["asked"] <= sizes["reached"] <= sizes["asked"]
    small = keras.saving.load_model(workdir / "stripped.keras")
    assert small.count_params() == sizes["reached"]
    images = digits.scale(digits.test_images).numpy()
    wrong = np.argmax(small.predict(images, verbose=0), -1)
    error = 100 * np.mean(wrong != digits.test_labels)
    assert report["test_error"]["stripped"] == pytest.approx(error)
    assert error < 20
    assert report["test_error"]["tflite"] == report["test_error"]["stripped"]
    assert set(report["max_difference"]) == {"tflite"}
    assert f"reached {sizes['reached']:,}." in tables.table(report)


def test_what_was_cut_is_trained_on(cut):
    workdir, report = cut
    before = keras.saving.load_model(workdir / "cut.keras").get_weights()
    small = keras.saving.load_model(workdir / "stripped.keras")
    for value, old in zip(small.get_weights(), before, strict=True):
        assert value.shape == old.shape and np.any(value != old)
    rows = history(workdir)
    assert [row["epoch"] for row in rows] == [str(n) for n in range(1, 12)]
    open_gates = [name for name in rows[0] if name.endswith("_open")]
    assert rows[7][open_gates[0]] and not rows[8][open_gates[0]]
    assert report["epochs"] == 11
    assert (workdir / "units.png").exists()


def history(workdir):
    with open(workdir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


def check_same(folders, reports):
    """Two runs have the same history, errors and weights, bit by bit."""
    one, other = map(history, folders)
    assert one == other
    assert reports[0]["test_error"] == reports[1]["test_error"]
    for name in ("model.keras", "stripped.keras"):
        one, other = (
            keras.saving.load_model(folder / name).get_weights()
            for folder in folders
        )
        for value, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(value, same)


@pytest.mark.parametrize("epoch", [3, 7, 9])
def test_runs_with_a_target_resume(epoch, cut, tmp_path, monkeypatch):
    """Stopped with gates, after their last epoch, and in fine-tuning."""

    def stop(self, own, logs=None):
        if own == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "on_epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        train(GATES, tmp_path)
    monkeypatch.undo()
    assert len(history(tmp_path)) == epoch + 1
    report = train(GATES, tmp_path)
    workdir, straight = cut
    check_same([tmp_path, workdir], [report, straight])


def test_runs_that_shrink_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "l0keras.shrinking.shrinking.steps_of_a_cut", lambda *_: 0.0
    )
    config = dataclasses.replace(GATES, shrink=True)
    sizes = []

    def stop(self, own, logs=None):
        sizes.append(self.model.count_params())
        if own == 7:
            raise KeyboardInterrupt

    folders = [tmp_path / name for name in ("stopped", "straight")]
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, folders[0])
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]
    reports = [train(config, folder) for folder in folders]
    check_same(folders, reports)
    # The network that is told of has all units, and computes the same.
    assert reports[0]["max_difference"]["tflite"] < 1e-4
    assert reports[0]["params"]["gated"] > reports[0]["params"]["dense"]


def test_a_target_needs_no_fine_tuning(tmp_path):
    config = dataclasses.replace(GATES, finetune_epochs=0, epochs=4)
    report = train(config, tmp_path)
    sizes = report["targets"]["params"]
    assert sizes["reached"] <= sizes["asked"]
    cut, small = (
        keras.saving.load_model(tmp_path / name).get_weights()
        for name in ("cut.keras", "stripped.keras")
    )
    for value, same in zip(cut, small, strict=True):
        np.testing.assert_array_equal(value, same)


DEPENDENT = Config(
    model="resnet8",
    dataset="cifar10",
    image_size=8,
    method="dep_l0",
    dependence="forward",
    target_macs=0.5,
    weight_decay=(5e-4,),
    sample_per="example",
    epochs=2,
    finetune_epochs=1,
    batch_size=4,
    optimizer="sgd",
    learning_rate=0.01,
    momentum=0.9,
    lr_schedule="cosine",
    ema_momentum=0.0,
    augmentation="crop_flip",
)


def test_dependent_gates_of_normalized_images(small_sets, tmp_path):
    report = train(DEPENDENT, tmp_path, data_dir=small_sets)
    sizes = report["targets"]["macs"]
    assert sizes["asked"] == 0.5 * report["macs"]["dense"]
    assert 0.9 * sizes["asked"] <= sizes["reached"] <= sizes["asked"]
    assert sizes["reached"] == report["macs"]["stripped"]
    # The decay of weights goes on.
    cut = keras.saving.load_model(tmp_path / "cut.keras")
    assert cut.losses


def test_the_schedule_goes_on_after_the_cut():
    config = dataclasses.replace(DEPENDENT, epochs=6, finetune_epochs=4)
    whole = make_optimizer(config, 5, keras.Sequential()).learning_rate
    straight = keras.optimizers.schedules.CosineDecay(0.01, 50)
    tuning = make_tuning_optimizer(config, 5)
    assert float(tuning.learning_rate) == pytest.approx(float(straight(30)))
    again = type(tuning).from_config(tuning.get_config())
    assert float(again.learning_rate) == pytest.approx(float(straight(30)))
    assert float(whole) == pytest.approx(0.01)


def test_dense_rows_have_errors(tmp_path, monkeypatch):
    report = with_dense(train(GROUPS, tmp_path), GROUPS, tmp_path)
    dense = json.loads((tmp_path / "dense" / "report.json").read_text())
    assert dense["config"]["method"] == "dense" and dense["epochs"] == 3
    error = dense["test_error"]["dense"]
    assert report["test_error"]["dense"] == error
    assert json.loads((tmp_path / "report.json").read_text()) == report
    # The run that is finished knows it.
    assert train(GROUPS, tmp_path) == report
    monkeypatch.setattr("trainers.run.dense.train", None)
    assert with_dense(report, GROUPS, tmp_path) == report


def test_dense_networks_that_diverge_have_none(tmp_path, capsys):
    report = {"test_error": {"stripped": 1.0}}
    config = dataclasses.replace(GROUPS, learning_rate=1e30)
    assert with_dense(report, config, tmp_path) == report
    assert "because it diverges" in capsys.readouterr().out
