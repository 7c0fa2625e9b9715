"""The comparison of groups of weights, on small images and a short training."""

import dataclasses
import json

import pytest
from absl import flags

from l0keras.optimizers import HSPG
from l0keras.optimizers import ProximalSGD
from trainers import group_sparsity
from trainers import networks
from trainers.optimizers import make_optimizer
from trainers.training import Training

ROWS = {row.name: row for row in group_sparsity.EXPERIMENTS["lenet5"]}
KINDS = {
    "wgsef_k": (HSPG, "WGSEF"),
    "wgsef": (HSPG, "WGSEF"),
    "wgsef_prox": (ProximalSGD, "WGSEF"),
    "hspg": (HSPG, "GroupLasso"),
    "group_lasso": (ProximalSGD, "GroupLasso"),
}


def short(name, **changes):
    row = ROWS[name]
    small = {"dataset": "digits", "image_size": 28, "epochs": 1, **changes}
    return dataclasses.replace(row, changes={**row.changes, **small})


SHORT = [short("wgsef_k", finetune_epochs=1), short("dense")]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("group_sparsity"))


@pytest.fixture(scope="module")
def results(workdir):
    return [group_sparsity.result_of(row, 4, workdir) for row in SHORT]


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_what_they_are_called(name):
    config = ROWS[name].config(2)
    assert config.seed == 2 and config.dataset == "mnist"
    model = networks.build(config, (28, 28, 1), 10, 60_000)
    optimizer = make_optimizer(config, 468, model)
    kind, regularizer = KINDS[name]
    assert type(optimizer) is kind
    optimizer.build(model.trainable_variables)
    assert all(
        type(one).__name__ == regularizer for one, _ in optimizer._settings
    )
    asked = [counts["asked"] for counts in optimizer.zero_groups()]
    wanted = [5, 16, 50] if regularizer == "WGSEF" else [None] * 3
    assert asked == wanted
    # All train as long, and the first one chooses on the way.
    assert config.epochs + config.finetune_epochs == 14
    keeps = 8 * 468 if name == "wgsef_k" else None
    assert optimizer.keep_at == keeps


def test_result_has_exactly_the_groups_that_were_asked_for(results):
    found, dense = results
    assert found["name"] == "wgsef_k" and found["seed"] == 4
    assert [counts["kept"] for counts in found["groups"]] == [5, 16, 50]
    assert found["units"] == "5-16-256-50"
    # By hand: two convolutions of 5 x 5 and two dense layers.
    params = 5 * 26 + 16 * (5 * 25 + 1) + 50 * (256 + 1) + 10 * 51
    macs = 576 * 5 * 25 + 64 * 16 * 5 * 25 + 50 * 256 + 500
    assert found["params"] == [431_080, params]
    assert found["macs"] == [2_293_000, macs] and macs < 229_300
    assert 0 < found["bytes"][1] < found["bytes"][0]
    assert dense["groups"] == [] and dense["params"] == [431_080] * 2


def test_finished_runs_are_not_trained_again(results, workdir, monkeypatch):
    monkeypatch.setattr(Training, "_fit", None)
    assert group_sparsity.result_of(SHORT[0], 4, workdir) == results[0]
    monkeypatch.setattr(
        group_sparsity, "result_of", lambda row, seed, _: (row.name, seed)
    )
    found = group_sparsity.collect(SHORT, workdir)
    assert found == [("wgsef_k", 4), ("dense", 4)]


def test_tables_show_the_median_run(results):
    one = results[0]
    runs = [
        {**one, "seed": seed, "test_error": error, "units": units}
        for seed, error, units in ((1, 3.0, "c"), (2, 1.0, "a"), (3, 2.0, "b"))
    ]
    lines = group_sparsity.table(SHORT, [*runs, results[1]]).splitlines()
    assert len(lines) == 4
    assert "| 2.00 % (3.00, 1.00, 2.00) | b |" in lines[2]
    assert f"| {431_080 / one['params'][1]:.1f}x |" in lines[2]
    assert "| 100.0 % |" in lines[3]
    lines = group_sparsity.group_table(SHORT, [*runs, results[1]]).splitlines()
    assert len(lines) == 2 + 3
    assert "| conv2 | 50 | 16 | 16 |" in lines[3]


def test_saves_tables_and_picture(results, tmp_path):
    group_sparsity.save(SHORT, results, tmp_path / "saved")
    folder = tmp_path / "saved"
    assert json.loads((folder / "results.json").read_text()) == results
    assert "| dense |" in (folder / "table.md").read_text()
    assert (folder / "group_sparsity.png").stat().st_size > 10_000


def run(monkeypatch, *arguments):
    values = flags.FlagValues()
    group_sparsity.define_flags(values)
    flags.DEFINE_integer("verbosity", -1, "As absl.", flag_values=values)
    argv = values(["group_sparsity", *arguments])
    monkeypatch.setattr(group_sparsity, "FLAGS", values)
    monkeypatch.setattr(group_sparsity.devices, "set_up", lambda threads: None)
    group_sparsity.main(argv)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--experiment=alexnet"], "`experiment` must be of lenet5"),
        (["--rows=wgsef,l0"], "`rows` must be of wgsef_k.*Received: l0"),
        ([], "`workdir` must name a folder"),
        (["more"], "All arguments must be flags"),
    ],
)
def test_refuses_what_it_does_not_know(arguments, message, monkeypatch):
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, *arguments)


def test_runs_what_is_asked_for(results, monkeypatch, tmp_path, capsys):
    asked = []

    def result_of(row, seed, *where):
        asked.append((row.name, seed))

    monkeypatch.setattr(group_sparsity, "result_of", result_of)
    monkeypatch.setattr(group_sparsity, "collect", lambda *where: results)
    run(
        monkeypatch,
        f"--workdir={tmp_path}",
        "--rows=dense,wgsef_k",
        "--seeds=1,5",
        f"--save_to={tmp_path}/saved",
    )
    assert asked == [(n, s) for s in (1, 5) for n in ("wgsef_k", "dense")]
    assert "| conv1 | 20 | 5 | 5 |" in capsys.readouterr().out
    assert (tmp_path / "saved" / "table.md").exists()
