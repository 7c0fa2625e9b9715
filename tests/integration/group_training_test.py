"""Training that sends groups of weights to 0, from end to end."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest

from trainers.run import tables
from trainers.run.config import Config
from trainers.run.training import Training
from trainers.run.training import train

CONFIG = Config(
    model="mlp",
    dataset="digits",
    method="wgsef",
    group_lambda=(0.05,),
    k=(0.2,),
    epsilon=(0.97,),
    epochs=4,
    finetune_epochs=2,
    batch_size=50,
    optimizer="sgd",
    learning_rate=0.2,
    lr_schedule="cosine",
    ema_momentum=0.0,
)
STAGES = ("prox", "half_space", "top_k")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wgsef")
    return folder, train(CONFIG, folder)


def units(folder):
    """How many units of each hidden layer have a weight or a bias."""
    model = keras.saving.load_model(folder / "model.keras")
    counts = {}
    for name in ("fc1", "fc2"):
        kernel, bias = model.get_layer(name).get_weights()
        alive = np.concatenate([kernel, bias[None]]).any(axis=0)
        counts[name] = int(alive.sum())
    return counts


def rows(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_exactly_k_groups_are_left(finished):
    folder, report = finished
    counts = report["groups"]
    assert [c["name"] for c in counts] == ["fc1", "fc2"]
    assert [c["groups"] for c in counts] == [300, 100]
    assert [c["asked"] for c in counts] == [60, 20]
    assert [c["kept"] for c in counts] == [60, 20]
    assert units(folder) == {"fc1": 60, "fc2": 20}
    for stage in STAGES:
        assert sum(own[stage] for own in counts) > 0, stage
    for own in counts:
        zeros = sum(own[stage] for stage in STAGES)
        assert own["kept"] + zeros == own["groups"]


def test_what_is_zero_is_cut(finished):
    folder, report = finished
    assert set(report["test_error"]) == {"sparse", "stripped", "tflite"}
    assert len(set(report["test_error"].values())) == 1
    assert max(report["max_difference"].values()) < 1e-4
    small = 65 * 60 + 61 * 20 + 21 * 10
    params = report["params"]
    assert params["sparse"] == params["dense"] == 65 * 300 + 301 * 100 + 1010
    assert params["stripped"] == params["tflite"] == small
    stripped = keras.saving.load_model(folder / "stripped.keras")
    assert stripped.count_params() == small
    assert "sparse" in tables.table(report)
    assert json.loads((folder / "report.json").read_text()) == report


def test_history_has_the_groups_of_each_epoch(finished):
    folder, _ = finished
    found = rows(folder)
    assert len(found) == 6
    for name, last in (("fc1", 60), ("fc2", 20)):
        kept = [int(row[f"{name}_kept"]) for row in found]
        # What a half-space step makes 0 stays so.
        assert kept[1] >= kept[2] >= kept[3] > last
        assert kept[4:] == [last, last]
    assert (folder / "groups.png").read_bytes()[1:4] == b"PNG"


def test_a_run_that_was_stopped_twice_is_the_same(finished, tmp_path):
    folder, report = finished
    # Before the half-space steps, and when k groups have been chosen.
    for last in (1, 4):
        run = Training(CONFIG, tmp_path)
        save = run._checkpoint.on_epoch_end

        def stopping(epoch, logs=None, save=save, last=last):
            save(epoch, logs)
            if epoch == last:
                raise KeyboardInterrupt

        run._checkpoint.on_epoch_end = stopping
        with pytest.raises(KeyboardInterrupt):
            run.run()
    again = train(CONFIG, tmp_path)
    assert again["groups"] == report["groups"]
    for name in ("model.keras", "stripped.keras"):
        models = [
            keras.saving.load_model(place / name)
            for place in (folder, tmp_path)
        ]
        for one, other in zip(*(model.get_weights() for model in models)):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "group_lasso", "group_lambda": (0.03,)},
        {"method": "hspg", "epsilon": (0.5,), "group_lambda": (0.03,)},
        {
            "method": "hspg",
            "k": (0.1, 0.4),
            "group_lambda": (0.001,),
            "finetune_epochs": 1,
        },
        {"k": (0.2,), "ema_momentum": 0.9, "group_lambda": (0.15,)},
        {"k": (0.2,), "precision": "mixed_float16", "finetune_epochs": 1},
    ],
    ids=["group_lasso", "hspg", "chosen", "averaged", "float16"],
)
def test_other_methods(changes, tmp_path):
    defaults = {
        name: getattr(Config, name)
        for name in ("k", "epsilon", "finetune_epochs")
    }
    config = dataclasses.replace(CONFIG, epochs=2, **(defaults | changes))
    report = train(config, tmp_path)
    counts = report["groups"]
    kept = {own["name"]: own["kept"] for own in counts}
    assert units(tmp_path) == kept
    assert 0 < sum(kept.values()) < 400
    for own in counts:
        zeros = sum(own[stage] for stage in STAGES)
        assert own["kept"] + zeros == own["groups"]
        if config.method == "group_lasso":
            assert zeros == own["prox"]
        asks = config.method == "wgsef" or config.finetune_epochs > 0
        assert (own["asked"] is not None) == asks
        if config.finetune_epochs:
            assert own["kept"] == own["asked"]
    assert report["test_error"]["stripped"] == report["test_error"]["sparse"]
    assert report["params"]["stripped"] < report["params"]["sparse"]
    assert (tmp_path / "groups.png").exists()


def test_groups_are_those_of_the_best_epoch(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        epochs=20,
        finetune_epochs=0,
        epsilon=(0.0,),
        switch_at=1.0,
        validation_examples=200,
        patience=1,
        # So strong that it soon gets no better.
        group_lambda=(0.1,),
        lr_schedule="steps",
    )
    report = train(config, tmp_path)
    found = rows(tmp_path)
    accuracies = [float(row["val_accuracy"]) for row in found]
    assert len(found) < 20
    best = found[accuracies.index(max(accuracies))]
    kept = {own["name"]: own["kept"] for own in report["groups"]}
    assert kept == {name: int(best[f"{name}_kept"]) for name in kept}
    assert kept == units(tmp_path)
    assert any(kept[name] != int(found[-1][f"{name}_kept"]) for name in kept)
    for own in report["groups"]:
        assert own["kept"] + own["prox"] == own["groups"]
