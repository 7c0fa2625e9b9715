"""The best setting of magnitude pruning, as found on held-out examples."""

import dataclasses
import json
import os

import keras
import numpy as np

from trainers.run.finetune import prune
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict
from trainers.run.workdir import write_json

SHARES = ("uniform", "global")
SCHEDULES = ("polynomial", "constant")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A way to prune.

    Args:
        shares: `"uniform"` for the same share of zeros in each kernel,
            `"global"` for those of the smallest weights of all kernels of the
            dense network together.
        schedule: see `l0keras.export.prune_low_magnitude`.
        rate: what the learning rate of the dense training is multiplied by.
        epochs: for how long.
    """

    shares: str = "uniform"
    schedule: str = "polynomial"
    rate: float = 1.0
    epochs: int = 40

    @property
    def name(self):
        """A string for files and tables."""
        return (
            f"{self.shares} shares, {self.schedule}, rate x {self.rate:g}, "
            f"{self.epochs} epochs"
        )


def sparsity_for(model, weights):
    """The share of zeros in kernels that leaves so many weights.

    Args:
        model: a plain Keras model.
        weights: how many weights shall be left, biases among them.

    Returns:
        A float in (0, 1).

    Raises:
        ValueError: so few weights cannot be left.
    """
    kernels = sum(
        int(np.prod(layer.kernel.shape))
        for layer in model.layers
        if hasattr(layer, "kernel")
    )
    others = model.count_params() - kernels
    density = (weights - others) / kernels
    if not 0 < density < 1:
        raise ValueError(
            f"Argument `input` must be a run with more weights than the "
            f"{others} biases of the network, and fewer than all. "
            f"Received: {weights} weights"
        )
    return 1 - density


def shares_of_zeros(model, sparsity, shares):
    """How many weights of each kernel are to be zero.

    Args:
        model: a plain Keras model, trained.
        sparsity: the share of zeros in all kernels together, in (0, 1).
        shares: see `Setting`.

    Returns:
        A float for all kernels, or a dictionary from names of layers to
        floats, as `l0keras.export.prune_low_magnitude` takes them. One
        weight of each kernel stays.
    """
    if shares == "uniform":
        return sparsity
    sizes = {
        layer.name: np.sort(np.abs(np.ravel(layer.kernel)))
        for layer in model.layers
        if hasattr(layer, "kernel")
    }
    everything = np.sort(np.concatenate(list(sizes.values())))
    edge = everything[round(sparsity * len(everything))]
    found = {}
    for name, sorted_sizes in sizes.items():
        zeros = int(np.searchsorted(sorted_sizes, edge))
        zeros = min(zeros, len(sorted_sizes) - 1)
        if zeros:
            found[name] = zeros / len(sorted_sizes)
    return found


def pruned(model, sparsity, setting, config, data):
    """Prunes a network by a setting.

    Args:
        model: a plain Keras model, trained. It is not changed.
        sparsity: see `shares_of_zeros`.
        setting: a `Setting`.
        config: the `Config` of its training.
        data: what `input_pipeline.load` returns.

    Returns:
        A plain Keras model, full of zeros.
    """
    config = dataclasses.replace(
        config, learning_rate=config.learning_rate * setting.rate
    )
    return prune(
        model,
        shares_of_zeros(model, sparsity, setting.shares),
        config,
        data,
        setting.epochs,
        setting.schedule,
    )


def search(start, error_of):
    """Finds a setting step by step, each time the best of a few.

    First shares and schedule, then a tenth of the learning rate, then twice
    the epochs, each with the best that was found before.

    Args:
        start: the `Setting` to begin with.
        error_of: a function from a `Setting` to its error on held-out
            examples.

    Returns:
        A list of pairs of a `Setting` and its error in the order in which they
        were tried, and the best `Setting`.
    """
    tried = {}

    def best_of(settings):
        for setting in settings:
            if setting not in tried:
                tried[setting] = error_of(setting)
        return min(settings, key=tried.get)

    best = best_of(
        [
            dataclasses.replace(start, shares=shares, schedule=schedule)
            for shares in SHARES
            for schedule in SCHEDULES
        ]
    )
    best = best_of([best, dataclasses.replace(best, rate=best.rate / 10)])
    best = best_of([best, dataclasses.replace(best, epochs=2 * best.epochs)])
    return list(tried.items()), best


def search_on(model, sparsity, start, config, data, path):
    """Finds a setting on data whose test examples are held-out ones.

    Args:
        model: the dense network, trained on the training examples of `data`.
        sparsity: see `shares_of_zeros`.
        start: see `search`.
        config: see `pruned`.
        data: a `Data`, see its `without_test`.
        path: a JSON file with the errors so far; the same call goes on from
            there.

    Returns:
        What `search` returns.
    """
    known = {}
    if os.path.exists(path):
        with open(path) as file:
            known = json.load(file)

    def error_of(setting):
        if setting.name not in known:
            keras.utils.set_random_seed(config.seed)
            small = pruned(model, sparsity, setting, config, data)
            known[setting.name] = error_percent(predict(small, data), data)
            write_json(path, known)
        print(f"{setting.name}: {known[setting.name]:.2f} % on held-out ones")
        return known[setting.name]

    return search(start, error_of)
