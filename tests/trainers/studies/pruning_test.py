import dataclasses

import keras
import numpy as np
import pytest

from trainers.run.config import Config
from trainers.studies import pruning
from trainers.studies.pruning import Setting


def errors(**best):
    """An error that counts what differs from the best setting."""

    def error_of(setting):
        return float(
            sum(getattr(setting, name) != value for name, value in best.items())
        )

    return error_of


@pytest.mark.parametrize("shares", pruning.SHARES)
@pytest.mark.parametrize("schedule", pruning.SCHEDULES)
@pytest.mark.parametrize("rate", [1.0, 0.1])
@pytest.mark.parametrize("epochs", [5, 10])
def test_the_search_finds_the_best(shares, schedule, rate, epochs):
    best = Setting(shares, schedule, rate, epochs)
    tried, found = pruning.search(
        Setting(epochs=5), errors(**dataclasses.asdict(best))
    )
    assert found == best
    assert dict(tried)[best] == min(error for _, error in tried) == 0.0
    assert len(tried) == len(dict(tried)) == 6


def network():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(2)]
    )
    first, last = model.layers
    first.kernel.assign(np.arange(1, 21).reshape(4, 5) / 100)
    last.kernel.assign(-np.arange(11, 21).reshape(5, 2) / 100)
    return model


def test_uniform_shares_are_one_number():
    assert pruning.shares_of_zeros(network(), 0.5, "uniform") == 0.5


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.8])
def test_global_shares_are_those_of_the_smallest_weights(sparsity):
    model = network()
    shares = pruning.shares_of_zeros(model, sparsity, "global")
    first, last = model.layers
    zeros = 20 * shares[first.name] + 10 * shares.get(last.name, 0)
    # Two weights have the same size.
    assert zeros == pytest.approx(30 * sparsity, abs=1)
    if sparsity == 0.2:
        assert set(shares) == {first.name}


def test_each_kernel_keeps_a_weight():
    model = network()
    first, last = model.layers
    last.kernel.assign(last.kernel * 1e-6)
    shares = pruning.shares_of_zeros(model, 0.5, "global")
    assert shares[last.name] == 0.9
    assert 0 < shares[first.name] < 0.5


def test_errors_that_are_known_are_not_made_again(
    digits, tmp_path, monkeypatch
):
    path, made = str(tmp_path / "found.json"), []

    def pruned(model, sparsity, setting, config, data):
        made.append(setting)
        return model

    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    monkeypatch.setattr(pruning, "pruned", pruned)
    arguments = (model, 0.5, Setting(epochs=1), Config(), digits, path)
    found = pruning.search_on(*arguments)
    assert len(made) == len(found[0]) == 6
    assert pruning.search_on(*arguments) == found
    assert len(made) == 6
