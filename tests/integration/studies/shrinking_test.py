"""The studies of shrinking and of CIFAR-10, on scikit-learn's digits."""

import pytest

from trainers.studies import cifar10
from trainers.studies import shrinking

CHANGES = {
    "model": "mlp",
    "dataset": "digits",
    "batch_size": 100,
    "epochs": 3,
    "ema_momentum": 0.9,
}


@pytest.fixture(scope="module")
def study():
    return shrinking.Shrinking(["lenet5"], CHANGES)


@pytest.fixture(scope="module")
def results(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    where = {"data_dir": None, "manual_dir": None}
    return [
        study.result(row, 1, row.folder(folder, 1), where) for row in study.rows
    ]


def test_ways_differ_in_one_thing(results):
    shrunk, whole, dense = results
    assert [result["way"] for result in results] == list(shrinking.WAYS)
    # Cuts do not pay here, so both are one training.
    for name in ("test_error", "units", "params", "epochs"):
        assert shrunk[name] == whole[name]
    assert shrunk["macs"] <= 0.1 < dense["macs"] == 1
    assert all(result["seconds"] > 0 for result in results)


def test_times_are_compared_seed_by_seed(study, results):
    others = [{**one, "seed": 2} for one in results]
    for result, seconds in zip(results + others, (20, 40, 30, 10, 40, 20)):
        result["seconds"] = seconds
    [[_, *lines]] = study.tables(results + others)
    assert [line[3:5] for line in lines] == [
        ["0.25, 0.50", "0.50, 0.67"],
        ["-", "1.33, 2.00"],
        ["0.50, 0.75", "-"],
    ]
    assert [line[2] for line in lines] == ["15", "40", "25"]
    assert study.draw(results)


@pytest.mark.parametrize("name", shrinking.NETWORKS)
def test_only_shrinking_and_gates_differ(name):
    configs = [row.config(1) for row in shrinking.rows([name], {"epochs": 7})]
    assert [config.shrink for config in configs] == [True, False, False]
    assert [config.is_cut for config in configs] == [True, True, False]
    assert {(c.epochs, c.finetune_epochs) for c in configs} == {(7, 0)}


def test_sizes_on_cifar10_have_one_recipe():
    study = cifar10.make({"epochs": 3, "finetune_epochs": 4})
    dense, *asked = (row.config(1) for row in study.rows)
    assert [config.target_macs for config in asked] == [0.58, 0.46]
    assert dense.epochs == 7 and not dense.is_cut
    for config in asked:
        assert (config.epochs, config.finetune_epochs) == (3, 4)
        for name in ("learning_rate", "weight_decay", "augmentation", "model"):
            assert getattr(config, name) == getattr(dense, name)
