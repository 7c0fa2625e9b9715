"""The comparison of sparse trainings, on small images and short trainings."""

import dataclasses
import json
import pathlib

import keras
import numpy as np
import pytest

from trainers.run import networks
from trainers.run.config import Config
from trainers.run.optimizers import kernels_of
from trainers.run.optimizers import make_optimizer
from trainers.run.training import Training
from trainers.studies import deep_r
from trainers.studies import plots

ROWS = {row.name: row for row in deep_r.ROWS}
MLP = [784 * 300, 300 * 100, 100 * 10]
LSTM = [28 * 512, 128 * 512, 128 * 10]
# How many connections each kernel of MNIST's networks may have.
BUDGETS = {
    "deep_r": [1712, 600, 350],
    "deep_r_paper_rate": [1712, 600, 350],
    "deep_r_half": [781, 300, 250],
    "soft_deep_r": [1712, 600, 350],
    "static": [1712, 600, 350],
    "l1": MLP,
    "pruned": MLP,
    "dense": MLP,
    "lstm_1": [250, 361, 200],
    "lstm_5": [1300, 2158, 600],
    "lstm_10": [2600, 4515, 1000],
    "lstm_dense": LSTM,
}
METHODS = {
    "soft_deep_r": "soft_deep_r",
    "static": "static",
    "l1": "l1",
    "pruned": "dense",
    "dense": "dense",
    "lstm_dense": "dense",
}


def short(name, **changes):
    """A row for the small digits that come with scikit-learn."""
    row = ROWS[name]
    small = {"dataset": "digits", "epochs": 1, "batch_size": 100, **changes}
    return dataclasses.replace(row, changes={**row.changes, **small})


SHORT = {
    # Of so few connections to 64 pixels many more would be needed to learn.
    "deep_r": short("deep_r", connectivity=(0.05, 0.02, 0.35)),
    "pruned": short("pruned"),
    "dense": short("dense"),
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("deep_r")


def result_of(row, seed, workdir):
    where = {"data_dir": None, "manual_dir": None}
    return deep_r.STUDY.result(row, seed, row.folder(workdir, seed), where)


@pytest.fixture(scope="module")
def results(workdir):
    pytest.importorskip("tensorflow_model_optimization")
    return {
        name: result_of(row, 3, str(workdir)) for name, row in SHORT.items()
    }


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("it was there already")

    monkeypatch.setattr(Training, "_fit", refuse)
    monkeypatch.setattr(deep_r, "prune", refuse)


def test_budgets_are_those_of_all_rows():
    assert tuple(BUDGETS) == tuple(ROWS)
    for name, share in (("deep_r", 0.01), ("deep_r_half", 0.005)):
        assert sum(BUDGETS[name]) == share * sum(MLP)
    assert sum(BUDGETS["deep_r"]) == 2662


@pytest.mark.parametrize("name", ROWS)
def test_config_of_a_row_gives_its_connections(name):
    config = ROWS[name].config(7)
    assert config.seed == 7 and config.dataset == "mnist"
    assert config.method == METHODS.get(name, "deep_r")
    assert config.model == ("lstm" if "lstm" in name else "mlp")
    model = networks.build(config, (28, 28, 1), 10, 60_000)
    optimizer = make_optimizer(config, 100, model)
    optimizer.build(model.trainable_variables)
    kernels = kernels_of(model)
    sizes = LSTM if "lstm" in name else MLP
    assert [int(np.prod(kernel.shape)) for kernel in kernels] == sizes
    counts = [np.count_nonzero(kernel.numpy()) for kernel in kernels]
    assert counts == BUDGETS[name]
    # Where biases are, they do not count.
    assert config.use_bias == ("lstm" in name)


def test_flags_of_the_experiment_reach_a_row_that_does_not_change_them():
    config = ROWS["deep_r"].config(1)
    assert config == Config(
        model="mlp",
        use_bias=False,
        dataset="mnist",
        method="deep_r",
        connectivity=(0.00728, 0.02, 0.35),
        l1=5e-5,
        epochs=10,
        batch_size=10,
        optimizer="sgd",
        learning_rate=0.5,
        lr_boundaries=tuple(range(5, 10)),
        lr_decay=0.5,
        ema_momentum=0.0,
        seed=1,
    )
    slow = ROWS["deep_r_paper_rate"].config(1)
    assert slow == dataclasses.replace(
        config, learning_rate=0.05, lr_boundaries=(), l1=1e-4
    )


def test_rows_without_few_connections_have_the_defaults_of_their_settings():
    for name in ("pruned", "dense", "lstm_dense"):
        config = ROWS[name].config(1)
        for setting in ("connectivity", "l1", "temperature", "budget"):
            assert getattr(config, setting) == getattr(Config, setting)
    # The rate that is good for few connections lets more of them diverge.
    for name in ("l1", "pruned", "dense"):
        assert ROWS[name].config(1).learning_rate == 0.05
    assert [name for name in ROWS if ROWS[name].pruned] == ["pruned"]


def test_result_of_few_connections(results, workdir):
    found = results["deep_r"]
    report = json.loads((workdir / "deep_r-3" / "report.json").read_text())
    assert found["name"] == "deep_r" and found["seed"] == 3
    assert found["epochs"] == 1
    assert found["test_error"] == report["test_error"]["stripped"] < 90
    assert found["potential"] == 64 * 300 + 300 * 100 + 1000
    # One that has just been opened is 0 still.
    assert 1000 < found["connections"] <= 960 + 600 + 350
    stages = {"dense", "tflite", "tflite_sparse"}
    assert stages <= set(found["bytes"]) and stages == set(found["latency_us"])
    assert all(time > 0 for time in found["latency_us"].values())


def test_result_of_a_dense_network_has_all_connections(results):
    found = results["dense"]
    assert found["connections"] == found["potential"] == 50_200
    assert found["bytes"]["tflite"] > 4 * 50_200
    assert "tflite_sparse" not in found["bytes"]


def test_result_of_pruning_has_its_share(results, workdir):
    found = results["pruned"]
    assert found["name"] == "pruned" and found["seed"] == 3
    assert found["potential"] == 50_200
    assert found["connections"] == pytest.approx(502, abs=3)
    assert 0 <= found["test_error"] <= 100
    folder = workdir / "pruned-3"
    assert found["bytes"] == {
        "dense": (folder / "dense.tflite").stat().st_size,
        "tflite": (folder / "model.tflite").stat().st_size,
        "tflite_sparse": (folder / "sparse.tflite").stat().st_size,
    }
    assert found["bytes"]["tflite_sparse"] < found["bytes"]["tflite"] / 5
    assert set(found["latency_us"]) == set(found["bytes"])
    assert json.loads((folder / "pruned.json").read_text()) == found


def test_what_is_there_is_read(results, workdir, no_training):
    for name, row in SHORT.items():
        assert result_of(row, 3, str(workdir)) == results[name]


@pytest.mark.parametrize("name", ["deep_r", "pruned"])
def test_a_folder_of_other_settings_is_refused(results, workdir, name):
    row = dataclasses.replace(
        SHORT[name], changes={**SHORT[name].changes, "learning_rate": 0.25}
    )
    with pytest.raises(ValueError, match="differs in learning_rate=0.*0.25"):
        result_of(row, 3, str(workdir))
    if name == "pruned":
        row = dataclasses.replace(SHORT[name], pruned=0.02)
        with pytest.raises(ValueError, match="differs in pruned=0.01 there"):
            result_of(row, 3, str(workdir))


def result(name, seed, error, connections, sparse=True):
    """What `result_of` returns."""
    stages = ("tflite", "tflite_sparse") if sparse else ("tflite",)
    return {
        "name": name,
        "seed": seed,
        "test_error": error,
        "connections": connections,
        "potential": 266_200,
        "bytes": {stage: 1000 * (seed + 1) for stage in ("dense", *stages)},
        "latency_us": {"dense": 9.0, **{s: 2.0 * seed for s in stages}},
        "epochs": 10,
    }


RESULTS = [
    result("dense", 1, 1.5, 266_200, sparse=False),
    result("deep_r", 1, 4.0, 2600),
    result("deep_r", 2, 3.25, 2662),
    result("deep_r", 3, 3.5, 2650),
]


def test_table_has_medians_and_the_sizes_of_the_run_of_the_median_error():
    ((_, few, dense),) = deep_r.STUDY.tables(RESULTS)
    assert few == [
        *("DEEP R, 1 %", "96.50 %", "96.00, 96.75, 96.50", "2,650", "1.00 %"),
        *("4,000", "4,000"),
    ]
    assert dense == [
        *("dense", "98.50 %", "98.50", "266,200", "100.00 %", "2,000", "-"),
    ]


def test_picture_has_a_line_for_each_row_and_a_point_for_each_seed():
    titles = {name: row.title for name, row in ROWS.items()}
    wide = result("soft_deep_r", 1, 5.0, 2000)
    wider = result("soft_deep_r", 2, 6.0, 5324)
    figure = plots.sparse_trainings([*RESULTS, wide, wider], titles)
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["DEEP R, 1 %", "soft-DEEP R", "dense"]
    points = [line.get_xydata().tolist() for line in axes.lines]
    assert points == [
        [[4.0, 0], [3.25, 0], [3.5, 0]],
        [[5.0, 1], [6.0, 1]],
        [[1.5, 2]],
    ]
    shares = [text.get_text() for text in axes.texts]
    assert shares == [
        "0.98 % of the connections",
        "0.75-2 % of the connections",
        "100 % of the connections",
    ]


def test_collects_what_is_finished(results, workdir, no_training):
    study = deep_r.DeepRStudy("deep_r", tuple(SHORT.values()))
    assert study.collect(str(workdir)) == [results[name] for name in SHORT]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ROWS if n not in SHORT])
def test_every_other_row_from_end_to_end(name, tmp_path):
    row = short(name)
    found = result_of(row, 1, str(tmp_path))
    assert 0 < found["connections"] <= found["potential"]
    assert 0 <= found["test_error"] <= 100
    path = pathlib.Path(tmp_path, f"{name}-1", "model.keras")
    counts = [
        np.count_nonzero(kernel.numpy())
        for kernel in kernels_of(keras.saving.load_model(path))
    ]
    assert found["connections"] == pytest.approx(sum(counts), abs=1)
    deep_r.STUDY.save([found], tmp_path / "saved")
    assert row.title in (tmp_path / "saved" / "table.md").read_text()
