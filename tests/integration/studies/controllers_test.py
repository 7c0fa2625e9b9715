"""The study of controllers, on scikit-learn's digits."""

import json

import keras
import pytest
from absl import flags

from trainers.run import program
from trainers.studies import controllers

CHANGES = {
    "dataset": "digits",
    "validation_examples": 300,
    "epochs": 3,
    "finetune_epochs": 1,
}
# One size with two controllers; all others have tests of their own.
ROWS = [
    row
    for row in controllers.rows("mlp", (0.3,), **CHANGES)
    if row.name in ("dense", "macs_0.3_budget", "macs_0.3_composed")
]


def run(folder, *arguments):
    study = controllers.Controllers("controllers", ROWS)
    values = flags.FlagValues()
    controllers.define_flags(values)
    values(["controllers", "--seeds=1", f"--workdir={folder}", *arguments])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "set_up", lambda *numbers: None)
        return study.run(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("controllers")


@pytest.fixture(scope="module")
def results(folder):
    # The network that all cells start from is trained by the first of them.
    run(folder, "--rows=macs_0.3_budget")
    return run(folder, f"--save_to={folder / 'saved'}")


def test_all_cells_end_at_the_size(results):
    dense, *cells = results
    assert dense["validation_error"] < 60
    assert [one["controller"] for one in cells] == ["budget", "composed"]
    for one in cells:
        assert (one["of"], one["share"]) == ("macs", 0.3)
        assert 0.97 * 0.3 <= one["cut"] <= 0.3
        assert 0 < one["expected"] < 1 and 0 < one["strip"] <= 1
        for error in ("strip_error", "cut_error", "validation_error"):
            assert 0 < one[error] < 100
    assert cells[0]["multiplier"] is None and cells[1]["multiplier"] >= 0
    assert cells[0]["expected"] == pytest.approx(0.3, rel=0.05)


def test_saves_tables_and_a_picture(results, folder):
    saved = folder / "saved"
    assert json.loads((saved / "results.json").read_text()) == results
    head, _, *lines = (saved / "table.md").read_text().splitlines()
    assert head.startswith("| asked | controller | expected | test gates |")
    assert lines[0].startswith("| - | dense |") and len(lines) == 3
    assert lines[-1].startswith("| 30 % of the MACs | composed | ")
    assert (saved / "controllers.png").stat().st_size > 10_000


def test_the_same_again_trains_nothing(results, folder, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)
    assert run(folder) == results


def test_all_controllers_are_asked_for_the_same():
    for model in ("mlp", "lenet5"):
        dense, *cells = controllers.rows(model)
        assert dense.config(seed=1).method == "dense"
        assert len(cells) == 2 * 5 * 4
        for row in cells:
            config = row.config(seed=1)
            [target] = config.targets
            assert (target.of, target.share) == (row.of, row.share)
            # That by which multipliers choose the gates' speed.
            assert config.optimizer == "adam" and config.learning_rate == 1e-3
            # The test set is not used.
            assert config.validation_examples == 10_000
