"""The study of the paper's sizes, on scikit-learn's digits."""

import json

import keras
import pytest
from absl import flags

from trainers.run import program
from trainers.studies import mnist

CHANGES = {
    "dataset": "digits",
    "target_params": 0.25,
    "epochs": 6,
    "finetune_epochs": 2,
    "batch_size": 100,
    "ema_momentum": 0.9,
}
ROWS = (
    mnist.Row("mlp", "dense", "mnist_mlp_l0_target", CHANGES, dense=True),
    mnist.Row(
        "mlp_l0", "gates", "mnist_mlp_l0_target", CHANGES, "1-2-3, 9.9 %"
    ),
)


def run(folder, *arguments):
    study = mnist.Asked(rows=ROWS)
    values = flags.FlagValues()
    mnist.define_flags(values)
    values(["mnist", "--seeds=1,2", *arguments])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "set_up", lambda *numbers: None)
        return study.run(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mnist")


@pytest.fixture(scope="module")
def results(folder):
    return run(
        folder,
        f"--workdir={folder / 'runs'}",
        f"--save_to={folder / 'saved' / 'mnist'}",
    )


def test_sizes_are_at_most_those_asked_for(results):
    assert [(r["name"], r["seed"]) for r in results] == [
        *(("mlp", 1), ("mlp", 2)),
        *(("mlp_l0", 1), ("mlp_l0", 2)),
    ]
    for dense, small in zip(results[:2], results[2:]):
        assert dense["asked"] is None
        assert small["asked"] == 0.25 * dense["params"]
        assert 0.97 * small["asked"] <= small["params"] <= small["asked"]
        assert dense["epochs"] == small["epochs"] == 8
        for result in (dense, small):
            assert 0 < result["test_error"] < 60


def test_saves_a_table_a_picture_and_a_card(results, folder):
    saved = folder / "saved"
    assert json.loads((saved / "mnist" / "results.json").read_text()) == results
    head, _, dense, small = (
        (saved / "mnist" / "table.md").read_text().splitlines()
    )
    assert "| asked | parameters |" in head
    assert dense.startswith("| dense | - | - | ") and "(seed 2)" in dense
    assert small.startswith("| gates | 1-2-3, 9.9 % | 12,")
    assert (saved / "mnist" / "mnist.png").stat().st_size > 10_000
    own = saved / "mnist_mlp_l0_target"
    assert "--flagfile=trainers/experiments/mnist_mlp_l0_target.flags" in (
        (own / "README.md").read_text()
    )
    model = keras.saving.load_model(own / "stripped.keras")
    assert model.count_params() in [r["params"] for r in results[2:]]
    assert "`mnist_mlp_l0_target` | 2 |" in (saved / "runs.md").read_text()


def test_the_same_again_trains_nothing(results, folder, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)
    assert run(folder, f"--workdir={folder / 'runs'}") == results


def test_epochs_may_be_fewer():
    changes = {"epochs": 3, "finetune_epochs": 2}
    study = mnist.Asked(changes=changes)
    assert not study.keeps and mnist.STUDY.keeps
    for row in study.rows:
        config = row.config(1)
        assert config.epochs == (5 if row.dense else 3)
        assert config.finetune_epochs == (0 if row.dense else 2)


def test_rows_are_the_papers():
    networks = [row.flagfile for row in mnist.ROWS if not row.dense]
    assert len(set(networks)) == 4
    for row in mnist.ROWS:
        config = row.config(seed=2)
        assert config.seed == 2
        assert config.has_target != row.dense
        assert config.epochs + config.finetune_epochs == 200
