r"""Compares gates that depend on each other with gates that do not.

    python -m trainers.studies.sweep --workdir=runs/sweep --num_threads=1 \
        --data_dir=DATA --manual_dir=FASHION_MNIST

trains small networks on Fashion-MNIST, dense, with independent gates and with
gates in a forward and in a backward chain (Dep-L0), each for several prices
and seeds, on a part of the training examples, cuts them and measures their
errors on the other part (`--validation_examples`). When all of these are there,
the price with the smallest error among those with few multiply-accumulates
(`--macs_share`) is chosen for each network and kind of gates, and trained once
more with each seed, on all training examples: the test set is for these alone.
A table and a picture show both. The same command goes on where it was stopped;
with `--rows` or `--seeds` several processes share the work.
"""

import dataclasses
import functools
import json
import os
import time

import keras
import numpy as np
from absl import flags

import l0keras
from l0keras import models
from l0keras import optimizers
from trainers.data import input_pipeline
from trainers.run import networks
from trainers.run import program
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict
from trainers.run.workdir import Workdir
from trainers.run.workdir import write_json
from trainers.studies import plots
from trainers.studies import study

FLAGS = flags.FLAGS
# Scaled down so far that two cores can train a hundred of them.
NETWORKS = {
    "vgg": networks.NETWORKS["vgg7"].build,
    "resnet20": functools.partial(models.resnet, 20, 8),
}
METHODS = ("dense", "independent", "forward", "backward")
PRICES = (1.0, 3.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The training of a run.

    Args:
        dataset: a name that `input_pipeline.load` knows.
        epochs: epochs in which gates are learned.
        finetune_epochs: epochs after those, with the test gates and no
            penalty.
        batch_size: examples in a step.
        learning_rate: of the weights at the start, SGD with Nesterov momentum
            0.9 and a cosine schedule; a fifth of it for fine-tuning.
        generator_learning_rate: of the generator's weights, Adam.
        gate_learning_rate: of the log_alpha of independent gates, Adam. Each
            weight of the generator moves a whole layer, so the same number
            would not be the same speed.
        l2: weight decay, 0.5 * l2 * w^2.
        image_size: the side of the images.
        validation_examples: how many training examples are held out; the same
            ones in all runs.
    """

    dataset: str = "fashion_mnist"
    epochs: int = 3
    finetune_epochs: int = 1
    batch_size: int = 128
    learning_rate: float = 0.1
    generator_learning_rate: float = 1e-3
    gate_learning_rate: float = 2e-2
    l2: float = 5e-4
    image_size: int = 14
    validation_examples: int = 10_000


@dataclasses.dataclass(frozen=True)
class Row(study.Row):
    """A line of the table, see `study.Row`.

    Its training is not one of `trainers.train`: the schedule of the learning
    rate begins anew for fine-tuning.

    Args:
        network: a name in `NETWORKS`.
        method: one of `METHODS`.
        price: the price of all multiply-accumulates of the dense network, in
            the unit of the loss (nats). The price of one, the paper's lambda,
            follows.
    """

    flagfile: str = ""
    network: str = "vgg"
    method: str = "dense"
    price: float = 0.0

    @property
    def last_file(self):
        return "result.json"

    def test_folder(self, workdir, seed):
        """The folder of the run on all training examples."""
        return f"{self.folder(workdir, seed)}-test"


ROWS = tuple(
    Row(
        f"{network}_{method}_{price:g}",
        f"{network}, {method}, price {price:g}",
        network=network,
        method=method,
        price=price,
    )
    for network in NETWORKS
    for method in METHODS
    for price in ((0.0,) if method == "dense" else PRICES)
)


class Sweep(study.Study):
    """Dense networks, independent gates and chains, at several prices.

    Args:
        rows: a tuple of `Row`.
        settings: a `Settings`.
        macs_share: the share of the dense network's multiply-accumulates that
            a chosen setting may have, in (0, 1).

    Raises:
        ValueError: a share out of its range.
    """

    def __init__(self, rows=ROWS, settings=Settings(), macs_share=0.6):
        super().__init__("sweep", rows)
        if not 0 < macs_share < 1:
            raise ValueError(
                "Argument `macs_share` must be in (0, 1). "
                f"Received: macs_share={macs_share}"
            )
        self.settings = settings
        self.macs_share = macs_share

    def result(self, row, seed, folder, where):
        """See `Study.result`; the error is that of held-out examples.

        Returns:
            A dict with `name`, `seed`, `validation_error`, `network`,
            `method`, `price`, `macs` and `params` of the stripped and
            `dense_macs` and `dense_params` of the dense network, `difference`
            (of the logits of all held-out images by stripping, as a share of
            the largest) and `seconds`.
        """
        return self._result(row, seed, folder, where, "validation_error")

    def collect(self, workdir, where=None):
        """See `Study.collect`; also trains what is chosen.

        That happens when all rows are finished with the same seeds. The
        results of `chosen` rows have a `test_error` in the place of
        `validation_error`.
        """
        where = where or study.NOWHERE
        results = super().collect(workdir, where)
        tested = []
        for row in chosen(summary(results), self.rows, self.macs_share):
            for result in self.of_row(results, row):
                seed = result["seed"]
                folder = row.test_folder(workdir, seed)
                tested.append(
                    self._result(row, seed, folder, where, "test_error")
                )
        return results + tested

    def _result(self, row, seed, folder, where, error):
        settings = dataclasses.asdict(self.settings)
        settings |= {"row": row.name, "seed": seed, "error": error}
        place = Workdir(folder, settings)
        path = place.file(row.last_file)
        try:
            if not os.path.exists(path):
                place.claim()
                data = load(self.settings, **where)
                if error == "validation_error":
                    count = self.settings.validation_examples
                    data = data.without_test(count, seed=0)
                run = Run(row, seed, self.settings, data)
                write_json(path, run.result(error))
            with open(path) as file:
                return json.load(file)
        finally:
            place.close()

    def tables(self, results):
        return [table(summary(results))]

    def draw(self, results):
        return plots.prices(summary(results))


@functools.cache
def load(settings, data_dir, manual_dir):
    """The data of all runs."""
    return input_pipeline.load(
        settings.dataset, data_dir, manual_dir, settings.image_size
    )


class Run:
    """The training of one row with one seed.

    Args:
        row: a `Row`.
        seed: of weights, noise and the order of examples.
        settings: a `Settings`.
        data: a `Data`.
    """

    def __init__(self, row, seed, settings, data):
        self._row = row
        self._seed = seed
        self._settings = settings
        self._data = data

    def result(self, error):
        """Trains the network and measures it on the data's test examples.

        Args:
            error: the name of the error in the dict.

        Returns:
            The dict of `Sweep.result`.
        """
        start = time.monotonic()
        seed, method = self._seed, self._row.method
        keras.utils.set_random_seed(seed)
        dense = self._build()
        macs = l0keras.count_macs(dense)
        if method == "dense":
            model = self._build(seed=seed)
        else:
            dependence = None if method == "independent" else method
            model = self._build(
                gates="paper",
                l0=self._row.price / macs,
                cost="macs",
                dependence=dependence,
                seed=seed,
            )
        self._fit(model, method, seed)
        stripped = l0keras.strip(model)
        logits = predict(model, self._data)
        difference = np.max(np.abs(predict(stripped, self._data) - logits))
        return {
            "name": self._row.name,
            "network": self._row.network,
            "method": method,
            "price": self._row.price,
            "seed": seed,
            error: error_percent(logits, self._data),
            "macs": l0keras.count_macs(stripped),
            "params": stripped.count_params(),
            "dense_macs": macs,
            "dense_params": dense.count_params(),
            "difference": float(difference / np.max(np.abs(logits))),
            "seconds": time.monotonic() - start,
        }

    def _build(self, **arguments):
        return NETWORKS[self._row.network](
            input_shape=self._data.input_shape,
            classes=self._data.classes,
            l2=self._settings.l2,
            **arguments,
        )

    def _fit(self, model, method, seed):
        settings = self._settings
        steps = self._data.steps_per_epoch(settings.batch_size)
        last = settings.epochs + settings.finetune_epochs
        batches = self._data.train_batches(settings.batch_size, seed, last)
        for first, epochs, rate in (
            (0, settings.epochs, settings.learning_rate),
            (settings.epochs, last, settings.learning_rate / 5),
        ):
            optimizer = _sgd(rate, (epochs - first) * steps)
            if first:
                networks.freeze_gates(model)
            elif method != "dense":
                optimizer = self._with_gates(optimizer, method)
            model.compile(
                optimizer,
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile=False,
            )
            model.fit(
                batches.skip(first * steps),
                initial_epoch=first,
                epochs=epochs,
                steps_per_epoch=steps,
                # The batches are in an order of their own.
                shuffle=False,
                verbose=0,
            )

    def _with_gates(self, optimizer, method):
        rate = self._settings.generator_learning_rate
        if method == "independent":
            rate = self._settings.gate_learning_rate
        adam = keras.optimizers.Adam(rate)
        return optimizers.OptimizerGroups(
            [("gate_generator", adam), (".*", optimizer)]
        )


def _sgd(rate, steps):
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    return keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)


def summary(rows):
    """Means over seeds.

    Args:
        rows: a list of dicts, one for each run.

    Returns:
        A list of dicts, one for each network, method, price and set of
        examples, in the order in which they first come, with `examples`
        ("held out" or "test"), `error`, `macs` and `params` (means), `low` and
        `high` (the range of errors) and `seeds`, a list.
    """
    found = {}
    for row in rows:
        examples = "test" if "test_error" in row else "held out"
        key = row["network"], row["method"], row["price"], examples
        found.setdefault(key, []).append(row)
    points = []
    for (network, method, price, examples), own in found.items():
        name = "test_error" if examples == "test" else "validation_error"
        errors = [row[name] for row in own]
        points.append(
            {
                "network": network,
                "method": method,
                "price": price,
                "examples": examples,
                "error": float(np.mean(errors)),
                **{
                    name: float(np.mean([row[name] for row in own]))
                    for name in ("macs", "params", "dense_macs")
                },
                "low": min(errors),
                "high": max(errors),
                "seeds": [row["seed"] for row in own],
            }
        )
    return points


def chosen(points, rows, macs_share):
    """The rows whose networks are worth the test set.

    Args:
        points: what `summary` returns.
        rows: all rows, a tuple of `Row`.
        macs_share: see `Sweep`.

    Returns:
        A list of `Row`, for each network the dense one and for each kind of
        gates the one with the smallest mean error on held-out examples among
        those with at most so many multiply-accumulates, if there is any. It
        is empty as long as a row lacks a seed that another one has.
    """
    known = {
        (point["network"], point["method"], point["price"]): point
        for point in points
        if point["examples"] == "held out"
    }
    own = [known.get((row.network, row.method, row.price)) for row in rows]
    if None in own or len({tuple(point["seeds"]) for point in own}) != 1:
        return []
    best = {}
    for row, point in zip(rows, own):
        if row.method != "dense":
            if point["macs"] > macs_share * point["dense_macs"]:
                continue
        key = row.network, row.method
        if key not in best or point["error"] < best[key][0]["error"]:
            best[key] = point, row
    return [row for _, row in best.values()]


def table(points):
    """The table of the points of `summary`, rows of strings."""
    lines = [
        [
            "network",
            "gates",
            "price",
            "examples",
            "error",
            "range",
            "MACs",
            "of dense",
            "parameters",
            "seeds",
        ]
    ]
    order = list(METHODS)
    for point in sorted(
        points,
        key=lambda p: (
            p["network"],
            order.index(p["method"]),
            p["price"],
            p["examples"],
        ),
    ):
        share = 100 * point["macs"] / point["dense_macs"]
        lines.append(
            [
                point["network"],
                point["method"],
                f"{point['price']:g}",
                point["examples"],
                f"{point['error']:.2f} %",
                f"{point['low']:.2f}-{point['high']:.2f}",
                f"{point['macs']:,.0f}",
                f"{share:.0f} %",
                f"{point['params']:,.0f}",
                ", ".join(map(str, point["seeds"])),
            ]
        )
    return lines


STUDY = Sweep()


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    study.define_flags(flag_values)
    flags.DEFINE_integer(
        "validation_examples",
        Settings.validation_examples,
        "Number of training examples to hold out, by which prices are chosen.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "macs_share",
        STUDY.macs_share,
        "Share of the dense network's multiply-accumulates that a chosen "
        "price may leave, in (0, 1).",
        flag_values=flag_values,
    )


def _study():
    settings = Settings(validation_examples=FLAGS.validation_examples)
    return Sweep(ROWS, settings, FLAGS.macs_share)


main = study.main(_study)


if __name__ == "__main__":
    program.run(main, define_flags)
