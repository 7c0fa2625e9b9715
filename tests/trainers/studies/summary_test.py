import json

import pytest

from trainers.run.config import CHOICES
from trainers.studies import summary


def report(seed, error, params, architecture="20-25-45-462", **config):
    return {
        "units": {"stripped": architecture},
        "test_error": {"gated": error, "stripped": error, "tflite": error},
        "test_error_raw": error + 0.5,
        "params": {"dense": 431080, "stripped": params},
        "macs": {"dense": 2293000, "stripped": 10 * params},
        "bytes": {"tflite": 4 * params},
        "latency_us": {"tflite": 10.0},
        "seed": seed,
        "epochs": 200,
        "seconds": 1260.0,
        "config": {
            "model": "lenet5",
            "method": "l0",
            "ema_momentum": 0.999,
            "dataset": "mnist",
            "l0_lambda": [0.1],
            "seed": seed,
            **config,
        },
        "versions": {"keras": "3.15.1"},
    }


@pytest.fixture
def workdirs(tmp_path):
    """Three runs; the one with seed 3 has the median error."""
    paths = []
    for run in (
        report(1, 0.9, 38_000),
        report(2, 0.7, 40_000),
        report(3, 0.8, 39_000, "20-26-44-460"),
    ):
        path = tmp_path / f"run-{run['seed']}"
        path.mkdir()
        (path / "report.json").write_text(json.dumps(run))
        (path / "model.tflite").write_text(f"file of {run['seed']}")
        paths.append(str(path))
    return paths


def test_the_table_has_a_row_for_each_run_and_the_medians(workdirs):
    lines = summary.table(summary.read(workdirs)).splitlines()
    assert len(lines) == 6
    assert lines[2] == (
        "| 1 | 20-25-45-462 | 0.90 % | 1.40 % | 38,000 | 380,000 | 152,000 "
        "| 21 |"
    )
    assert lines[5] == (
        "| median |  | 0.80 % | 1.30 % | 39,000 | 390,000 | 156,000 | 21 |"
    )


def test_dense_networks_have_a_row_with_their_median_error(workdirs):
    reports = summary.read(workdirs)
    for one, error in zip(reports, (0.7, 0.5, 0.6)):
        one["test_error"]["dense"] = error
        one["units"]["dense"] = "20-50-800-500"
        one["bytes"]["dense"] = 1_728_280
    last = summary.table(reports).splitlines()[-1]
    assert last == (
        "| dense | 20-50-800-500 | 0.60 % | - | 431,080 | 2,293,000 "
        "| 1,728,280 | - |"
    )


def test_a_single_run_has_no_medians(workdirs):
    assert "median" not in summary.table(summary.read(workdirs[:1]))


def test_saves_the_files_of_the_median_run_with_a_card(workdirs, tmp_path):
    folder = tmp_path / "mnist_lenet5_l0"
    reports = summary.read(workdirs)
    summary.save(workdirs, reports, str(folder), "the command")
    assert (folder / "model.tflite").read_text() == "file of 3"
    assert json.loads((folder / "report.json").read_text())["seed"] == 3
    seeds = json.loads((folder / "seeds.json").read_text())
    assert [run["seed"] for run in seeds] == [1, 2, 3]
    card = (folder / "README.md").read_text()
    assert "# mnist_lenet5_l0" in card
    assert "stripped to 20-26-44-460 (39,000 of 431,080 parameters)" in card
    assert "the command" in card
    assert "seed 3, the median test error" in card
    # Files that a run does not have are not made up.
    assert not (folder / "units.png").exists()


def test_of_two_runs_the_worse_is_kept(workdirs, tmp_path):
    reports = summary.read(workdirs[:2])
    summary.save(workdirs[:2], reports, str(tmp_path / "two"))
    assert (tmp_path / "two" / "model.tflite").read_text() == "file of 1"


def test_the_card_of_a_single_run_speaks_of_no_median(workdirs, tmp_path):
    reports = summary.read(workdirs[:1])
    summary.save(workdirs[:1], reports, str(tmp_path / "one"))
    card = (tmp_path / "one" / "README.md").read_text()
    assert "One seed was run, 1." in card
    assert "median" not in card


def test_refuses_what_is_no_finished_run(tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        summary.read([str(tmp_path)])
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(ValueError, match="no finished run"):
        summary.read([str(tmp_path)])
    with pytest.raises(ValueError, match="At least one"):
        summary.read([])


def test_refuses_runs_of_different_experiments(workdirs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    run = report(4, 0.8, 39_000, l0_lambda=[0.2])
    (other / "report.json").write_text(json.dumps(run))
    with pytest.raises(ValueError, match="differ in l0_lambda"):
        summary.read([*workdirs, str(other)])


def test_refuses_the_same_seed_twice(workdirs):
    with pytest.raises(ValueError, match="same seed"):
        summary.read([workdirs[0], workdirs[0]])


def test_every_method_has_words_for_its_card():
    assert set(summary.METHODS) == set(CHOICES["method"])


def test_cards_say_what_test_errors_have_chosen(workdirs, tmp_path):
    reports = summary.read(workdirs)
    card = summary.card(reports, "mnist_mlp_l0_sep")
    told = "l0_lambda, weight_decay, sample_per and ema_momentum"
    assert f"test errors of earlier runs: {told}. So" in card
    assert "test errors" not in summary.card(reports, "cifar10_vgg16_wgsef")
    assert "test errors" not in summary.card(reports, "of no flagfile")
    folder = tmp_path / "mnist_mlp_l0_sep"
    summary.save(workdirs, reports, str(folder))
    lines = summary.runs_table(str(tmp_path)).splitlines()
    assert lines[2].endswith(f"| 38,000 | {told} |")
