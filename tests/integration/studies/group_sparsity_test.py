"""The comparison of groups of weights, on small images and a short training."""

import dataclasses
import json

import pytest
from absl import flags

import l0keras
from l0keras.optimizers import HSPG
from l0keras.optimizers import ProximalSGD
from trainers.run import networks
from trainers.run import program
from trainers.run.optimizers import make_optimizer
from trainers.run.training import Training
from trainers.studies import group_sparsity

ROWS = {
    name: {row.name: row for row in rows}
    for name, rows in group_sparsity.EXPERIMENTS.items()
}
KINDS = {
    "wgsef_k": (HSPG, "WGSEF"),
    "hspg_k": (HSPG, "GroupLasso"),
    "norms_k": (ProximalSGD, "GroupLasso"),
    "wgsef": (HSPG, "WGSEF"),
    "wgsef_prox": (ProximalSGD, "WGSEF"),
    "hspg": (HSPG, "GroupLasso"),
    "group_lasso": (ProximalSGD, "GroupLasso"),
}
# What there is to keep, steps in an epoch, epochs in all and before choosing.
LENET = ([5, 16, 50], 468, 14, 8, (28, 28, 1))
VGG = ([6, 6, 13, 13, 26, 26], 468, 6, 4, (14, 14, 1))
STAGES = ("prox", "half_space", "top_k")
EXPECTED = {"lenet5": LENET, "vgg7": VGG}


def short(name, **changes):
    row = ROWS["lenet5"][name]
    small = {"dataset": "digits", "image_size": 28, "epochs": 1, **changes}
    return dataclasses.replace(row, changes={**row.changes, **small})


SHORT = [short("wgsef_k", finetune_epochs=1), short("dense")]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("group_sparsity"))


STUDY = group_sparsity.GroupStudy("group_sparsity", SHORT)


@pytest.fixture(scope="module")
def results(workdir):
    where = {"data_dir": None, "manual_dir": None}
    return [
        STUDY.result(row, 4, row.folder(workdir, 4), where) for row in SHORT
    ]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("experiment", EXPECTED)
def test_rows_are_what_they_are_called(experiment, name):
    wanted, steps, epochs, choice, shape = EXPECTED[experiment]
    config = ROWS[experiment][name].config(2)
    assert config.seed == 2
    model = networks.build(config, shape, 10, 60_000)
    optimizer = make_optimizer(config, steps, model)
    kind, regularizer = KINDS[name]
    assert type(optimizer) is kind
    optimizer.build(model.trainable_variables)
    assert all(
        type(penalized.regularizer).__name__ == regularizer
        and (penalized.strength > 0) == (name != "norms_k")
        for penalized in optimizer._penalized
    )
    asked = [counts["asked"] for counts in optimizer.zero_groups()]
    asks = name.endswith("_k") or regularizer == "WGSEF"
    assert asked == (wanted if asks else [None] * len(wanted))
    # All train as long, and some choose on the way.
    assert config.epochs + config.finetune_epochs == epochs
    keeps = choice * steps if name.endswith("_k") else None
    assert optimizer.keep_at == keeps


@pytest.mark.parametrize("experiment", EXPECTED)
def test_rows_without_groups(experiment):
    *_, epochs, choice, _ = EXPECTED[experiment]
    dense = ROWS[experiment]["dense"].config(1)
    assert dense.method == "dense" and dense.epochs == epochs
    gates = ROWS[experiment]["l0"].config(1)
    assert gates.is_gated and gates.epochs == choice
    assert gates.epochs + gates.finetune_epochs == epochs
    assert {dense.dataset} == {
        row.config(1).dataset for row in ROWS[experiment].values()
    }


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
    monkeypatch.setattr(STUDY, "finish", lambda found, _: found)
    assert STUDY.collect(workdir) == results


def test_files_are_timed_in_turns(results, workdir, monkeypatch):
    asked = []

    def measure_latency(paths):
        asked.extend(paths)
        return [5.0, 40.0]

    monkeypatch.setattr(l0keras.export, "measure_latency", measure_latency)
    found = STUDY.finish(results, workdir)
    assert asked == [
        f"{workdir}/{name}-4/model.tflite" for name in ("wgsef_k", "dense")
    ]
    assert [result["latency_us"] for result in found] == [[40, 5], [40, 40]]
    for one, other in zip(found, results):
        assert {**one, "latency_us": 0} == {**other, "latency_us": 0}
    alone = STUDY.finish(results[:1], workdir)
    assert alone == results[:1]


def test_tables_show_the_median_run(results):
    one = results[0]
    runs = [
        {**one, "seed": seed, "test_error": error, "units": units}
        for seed, error, units in ((1, 3.0, "c"), (2, 1.0, "a"), (3, 2.0, "b"))
    ]
    sizes, groups = STUDY.tables([*runs, results[1]])
    assert len(sizes) == 3
    assert sizes[1][1:3] == ["2.00 % (3.00, 1.00, 2.00)", "b"]
    assert f"{431_080 / one['params'][1]:.1f}x" in sizes[1]
    assert "100.0 %" in sizes[2]
    assert len(groups) == 2
    layers = ["conv1 (20)", "conv2 (50)", "fc1 (500)"]
    assert groups[0][:4] == ["kept / asked for", *layers]
    assert groups[1][:4] == [SHORT[0].title, "5 / 5", "16 / 16", "50 / 50"]
    zeros = [int(cell) for cell in groups[1][-3:]]
    assert sum(zeros) == 15 + 34 + 450
    stages = [[one[s] for one in runs[2]["groups"]] for s in STAGES]
    assert zeros == [sum(stage) for stage in stages]
    # The numbers kept and asked for need not be the same.
    changed = [{**one, "asked": None} for one in one["groups"]]
    changed[1]["kept"] = 17
    _, groups = STUDY.tables([{**runs[0], "groups": changed}])
    assert groups[1][1:4] == ["5 / -", "17 / -", "50 / -"]


def test_saves_tables_and_picture(results, tmp_path):
    STUDY.save(results, tmp_path / "saved")
    folder = tmp_path / "saved"
    assert json.loads((folder / "results.json").read_text()) == results
    assert "| dense |" in (folder / "table.md").read_text()
    assert (folder / "group_sparsity.png").stat().st_size > 10_000


def test_refuses_an_unknown_experiment(monkeypatch):
    values = flags.FlagValues()
    group_sparsity.define_flags(values)
    values(["group_sparsity", "--experiment=alexnet"])
    monkeypatch.setattr(group_sparsity, "FLAGS", values)
    monkeypatch.setattr(program, "_quieten", lambda: None)
    with pytest.raises(SystemExit, match="`experiment` must be of lenet5, vgg"):
        group_sparsity.main(["group_sparsity"])
