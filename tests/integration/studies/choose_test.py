"""Choices on held-out examples, on scikit-learn's digits."""

import dataclasses
import json

import keras
import pytest
from absl import flags

from trainers.data import input_pipeline
from trainers.run import program
from trainers.run.config import Config
from trainers.run.training import train
from trainers.studies import choose

BASE = Config(
    model="mlp",
    dataset="digits",
    method="hspg",
    target_params=0.2,
    validation_examples=300,
    epochs=2,
    finetune_epochs=1,
    batch_size=100,
    optimizer="sgd",
    ema_momentum=0.0,
)
CHOICES = {"learning_rate": [0.1, 1e-6], "group_lambda": [(0.01,)]}
WHERE = {"data_dir": None, "manual_dir": None}


def run(workdir, *arguments):
    study = choose.Choice(choose.rows_of(BASE, CHOICES))
    values = flags.FlagValues()
    choose.define_flags(values)
    values(["choose", "--seeds=1,2", f"--workdir={workdir}", *arguments])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "set_up", lambda *numbers: None)
        return study, study.run(values)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("choose")


@pytest.fixture(scope="module")
def results(workdir):
    return run(workdir)[1]


def test_the_best_of_the_held_out_examples_is_tested(results, workdir):
    kinds = ["validation_error"] * 4 + ["test_error"] * 2
    assert len(results) == 6
    for result, kind in zip(results, kinds):
        assert kind in result and ("test_error" in result) == (kind[0] == "t")
    assert [r["seed"] for r in results] == [1, 2, 1, 2, 1, 2]
    best = "learning_rate=0.1_group_lambda=0.01"
    assert [r["name"] for r in results[4:]] == [best, best]
    # On all training examples, of which none is held out.
    [folder] = workdir.glob(f"{best}-1-test")
    config = json.loads((folder / "config.json").read_text())
    assert config["validation_examples"] == 0 and config["seed"] == 1
    assert config["learning_rate"] == 0.1 and "errors" not in config
    table = (workdir / "table.md").read_text().splitlines()
    assert len(table) == 2 + 3
    assert table[3].startswith(
        "| learning_rate=0.1, group_lambda=0.01 | test | "
    )
    assert (workdir / "choose.png").stat().st_size > 10_000


def test_the_same_again_trains_nothing(results, workdir, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)
    assert run(workdir)[1] == results


def test_examples_of_the_test_set_choose_nothing(
    results, digits, tmp_path, monkeypatch
):
    """With other test labels, which are wrong, the errors are the same."""
    other = dataclasses.replace(
        digits, test_labels=(digits.test_labels + 1) % 10
    )
    monkeypatch.setattr(input_pipeline, "load", lambda *a, **k: other)
    row = choose.rows_of(BASE, CHOICES)[0]
    config = row.config(1)
    report = train(config, tmp_path, held_out=True)
    assert report["test_error"]["stripped"] == results[0]["validation_error"]
    # A run that is to be tested has another folder.
    with pytest.raises(ValueError, match="workdir.*differs in errors"):
        train(config, tmp_path)


def result(name, error, params=50, seed=1):
    return {
        "name": name,
        "seed": seed,
        "validation_error": error,
        "params": [100, params],
        "macs": [1000, 10 * params],
    }


def test_small_ones_are_chosen_among():
    rows = choose.rows_of(BASE, {"learning_rate": [0.1, 0.2]})
    one, other = (row.name for row in rows)
    found = [result(one, 3.0, 60), result(other, 5.0, 40)]

    def name(results, **most):
        row = choose.Choice(rows, most).chosen(results)
        return row and row.name

    assert name(found) == one
    assert name(found, params=0.5) == name(found, macs=450.0) == other
    assert name(found, macs=0.1) is None
    # The errors of tests do not count, and none is chosen before the end.
    tested = {"name": other, "seed": 1, "test_error": 0.0}
    assert name([*found, tested]) == one
    assert name(found[:1]) is None
    assert name([*found, result(one, 1.0, seed=2)]) is None


def test_choices_are_read_from_flags():
    assert choose.parse(["learning_rate=0.1;1", "k=0.2;0.1,0.3"]) == {
        "learning_rate": [0.1, 1.0],
        "k": [(0.2,), (0.1, 0.3)],
    }


@pytest.mark.parametrize(
    "texts, message",
    [
        ([], "`choices` must name a setting"),
        (["rate=1"], "`choices` must be a setting, =, and values"),
        (["seed=1;2"], "`choices` must be a setting, =, and values"),
        (["learning_rate"], "`choices` must be a setting, =, and values"),
        (["learning_rate=x"], "`choices` must have values of `learning_rate`"),
        (["learning_rate=-1"], "`learning_rate` must be above 0"),
        (["k=0.3"], "`k` must be 0.1 with a target"),
    ],
)
def test_refuses_wrong_choices(texts, message):
    with pytest.raises(ValueError, match=message):
        choose.rows_of(BASE, choose.parse(texts))


def test_refuses_to_choose_by_the_test_set():
    base = dataclasses.replace(BASE, validation_examples=0)
    with pytest.raises(ValueError, match="`validation_examples` must be above"):
        choose.Choice(choose.rows_of(base, CHOICES))


def test_some_examples_are_held_out_by_default():
    values = flags.FlagValues()
    choose.define_flags(values)
    values(["choose"])
    assert values.validation_examples == 10_000
