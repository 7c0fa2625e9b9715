"""Trainings that are asked for a size."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from trainers.run.config import Config
from trainers.run.dense import with_dense
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


@pytest.mark.parametrize("method", ["wgsef", "hspg", "group_lasso"])
def test_groups_end_at_the_size(method, tmp_path):
    report = train(dataclasses.replace(GROUPS, method=method), tmp_path)
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
        ({"target_params": 9.0}, "`target_params` must be at least 87, "),
        (
            {
                "method": "deep_r",
                "finetune_epochs": 0,
                "target_params": 400.0,
            },
            "`target_params` must be at least ",
        ),
    ],
)
def test_refuses_sizes_that_cannot_be_reached(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Training(dataclasses.replace(GROUPS, **changes), tmp_path)
    assert not (tmp_path / "config.json").exists()


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
