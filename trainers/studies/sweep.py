r"""Compares gates that depend on each other with gates that do not.

    python -m trainers.studies.sweep --workdir=runs/sweep --num_threads=1 \
        --data_dir=DATA --manual_dir=FASHION_MNIST

trains small networks on Fashion-MNIST, dense, with independent gates and with
gates in a forward and in a backward chain (Dep-L0), each for several prices
and seeds, cuts them and shows test errors against multiply-accumulates as a
table and a picture. The same command goes on where it was stopped; with
`--networks` or `--seeds` several processes share the work.
"""

import dataclasses
import functools
import glob
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
from trainers.run.workdir import replacing
from trainers.run.workdir import write_json
from trainers.studies import sweep_plot

FLAGS = flags.FLAGS

# Scaled down so far that two cores can train a hundred of them.
NETWORKS = {
    "vgg": networks.NETWORKS["vgg7"].build,
    "resnet20": functools.partial(models.resnet, 20, 8),
}
METHODS = ("dense", "independent", "forward", "backward")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a sweep is made of.

    Args:
        prices: what the multiply-accumulates of the whole dense network cost,
            in the unit of the loss (nats). The price of one,
            the paper's lambda, follows.
        epochs: with gates that are learned.
        finetune_epochs: afterwards, with the test gates and no penalty.
        batch_size: examples in a step.
        learning_rate: of the weights at the start, SGD with Nesterov momentum
            0.9 and a cosine schedule; a fifth of it for fine-tuning.
        generator_learning_rate: of the generator's weights, Adam.
        gate_learning_rate: of the log_alpha of independent gates, Adam. Each
            weight of the generator moves a whole layer, so the same number
            would not be the same speed.
        l2: weight decay, 0.5 * l2 * w^2.
        image_size: the side of the images.

    Raises:
        ValueError: an argument out of its range.
    """

    prices: tuple = (1.0, 3.0, 10.0)
    epochs: int = 3
    finetune_epochs: int = 1
    batch_size: int = 128
    learning_rate: float = 0.1
    generator_learning_rate: float = 1e-3
    gate_learning_rate: float = 2e-2
    l2: float = 5e-4
    image_size: int = 14

    def __post_init__(self):
        for field in dataclasses.fields(self):
            values = getattr(self, field.name)
            values = values if isinstance(values, tuple) else (values,)
            may_be_zero = field.name == "l2"
            if not values or not all(
                value > 0 or value == 0 and may_be_zero for value in values
            ):
                raise ValueError(
                    f"Argument `{field.name}` must be above 0. "
                    f"Received: {field.name}={getattr(self, field.name)}"
                )

    def runs(self):
        """All runs for one network and seed: pairs of method and price."""
        return [
            (method, price)
            for method in METHODS
            for price in ((0.0,) if method == "dense" else self.prices)
        ]


class Sweep:
    """All runs of one network and seed, as far as they are not there yet.

    Args:
        network: a name in `NETWORKS`.
        seed: of weights, noise and the order of examples.
        settings: a `Settings`.
        data: a `Data`.
        workdir: a folder; each network and seed has one of its own in it.

    Raises:
        ValueError: an unknown network, or a workdir that holds another sweep
            or is in use.
    """

    def __init__(self, network, seed, settings, data, workdir):
        check_network(network)
        self._network = network
        self._seed = seed
        self._settings = settings
        self._data = data
        stored = json.loads(json.dumps(dataclasses.asdict(settings)))
        self._folder = Workdir(
            workdir and os.path.join(workdir, f"{network}-{seed}"),
            {"network": network, "seed": seed, **stored},
        )
        self._folder.claim()

    def run(self):
        """Trains what is missing.

        Returns:
            A list of dicts, one for each run.
        """
        path = self._folder.file("rows.json")
        try:
            rows = read(path)
            done = {(row["method"], row["price"]) for row in rows}
            for method, price in self._settings.runs():
                if (method, price) in done:
                    continue
                rows.append(self._row(method, price))
                write_json(path, rows)
                row = rows[-1]
                print(
                    f"{len(rows)}/{len(self._settings.runs())} {row['network']}"
                    f" {method} price {price:g} seed {row['seed']}: "
                    f"{row['test_error']:.2f} % at {row['macs']:,} MACs, "
                    f"{row['seconds']:.0f} s",
                    flush=True,
                )
            return rows
        finally:
            self._folder.close()

    def _row(self, method, price):
        start = time.monotonic()
        seed = self._seed
        keras.utils.set_random_seed(seed)
        dense = self._build()
        macs = l0keras.count_macs(dense)
        model = dense
        if method != "dense":
            dependence = None if method == "independent" else method
            model = self._build(
                gates="paper",
                l0=price / macs,
                cost="macs",
                dependence=dependence,
                seed=seed,
            )
        else:
            model = self._build(seed=seed)
        self._fit(model, method, seed)
        stripped = l0keras.strip(model)
        logits = predict(model, self._data)
        difference = np.max(np.abs(predict(stripped, self._data) - logits))
        return {
            "network": self._network,
            "method": method,
            "price": price,
            "seed": seed,
            "test_error": error_percent(logits, self._data),
            "macs": l0keras.count_macs(stripped),
            "params": stripped.count_params(),
            "dense_macs": macs,
            "dense_params": dense.count_params(),
            # Of the logits of all test images, when the gates were cut.
            "difference": float(difference / np.max(np.abs(logits))),
            "seconds": time.monotonic() - start,
        }

    def _build(self, **arguments):
        return NETWORKS[self._network](
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


def check_network(network):
    if network not in NETWORKS:
        raise ValueError(
            f"Argument `networks` must be of {', '.join(NETWORKS)}. "
            f"Received: {network}"
        )


def read(path):
    """The rows in a file, none where there is no such file."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return json.load(file)


def collect(workdir):
    """The rows of all networks and seeds in a workdir, as far as they are."""
    paths = glob.glob(os.path.join(workdir, "*", "rows.json"))
    return [row for path in sorted(paths) for row in read(path)]


def summary(rows):
    """Means over seeds.

    Args:
        rows: a list of dicts, one for each run.

    Returns:
        A list of dicts, one for each network, method and price, in the order
        in which they first come, with `test_error`, `macs` and `params`
        (means), `low` and `high` (the range of test errors) and `seeds` (how
        many).
    """
    found = {}
    for row in rows:
        key = row["network"], row["method"], row["price"]
        found.setdefault(key, []).append(row)
    return [
        {
            "network": network,
            "method": method,
            "price": price,
            **{
                name: float(np.mean([row[name] for row in own]))
                for name in ("test_error", "macs", "params", "dense_macs")
            },
            "low": min(row["test_error"] for row in own),
            "high": max(row["test_error"] for row in own),
            "seeds": len(own),
        }
        for (network, method, price), own in found.items()
    ]


def table(points):
    """A Markdown table of what `summary` returns."""
    lines = [
        "| network | gates | price | test error | range | MACs | of dense | "
        "parameters | seeds |",
        "| --- " * 9 + "|",
    ]
    order = list(METHODS)
    for point in sorted(
        points,
        key=lambda p: (p["network"], order.index(p["method"]), p["price"]),
    ):
        lines.append(
            f"| {point['network']} | {point['method']} | {point['price']:g} "
            f"| {point['test_error']:.2f} % "
            f"| {point['low']:.2f}-{point['high']:.2f} "
            f"| {point['macs']:,.0f} "
            f"| {100 * point['macs'] / point['dense_macs']:.0f} % "
            f"| {point['params']:,.0f} | {point['seeds']} |"
        )
    return "\n".join(lines)


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    program.define_data_flags(flag_values)
    program.define_device_flags(flag_values)
    flags.DEFINE_list(
        "networks",
        list(NETWORKS),
        f"Which of {', '.join(NETWORKS)} to train.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder for everything that this leaves behind.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "save_to",
        None,
        "A folder for rows, table and picture of all networks in the workdir.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "dataset", "fashion_mnist", "The data set.", flag_values=flag_values
    )
    flags.DEFINE_list(
        "prices",
        [str(price) for price in Settings.prices],
        "What all multiply-accumulates of the dense network cost, in nats.",
        flag_values=flag_values,
    )
    flags.DEFINE_list(
        "seeds",
        ["1", "2", "3"],
        "Of weights, noise and the order of examples; one run of each.",
        flag_values=flag_values,
    )
    for name in ("epochs", "finetune_epochs"):
        flags.DEFINE_integer(
            name,
            getattr(Settings, name),
            {
                "epochs": "Epochs in which gates are learned.",
                "finetune_epochs": "Epochs with frozen gates, afterwards.",
            }[name],
            flag_values=flag_values,
        )
    flags.DEFINE_integer(
        "image_size",
        Settings.image_size,
        "The side of the images.",
        flag_values=flag_values,
    )


def save(rows, folder):
    """Leaves rows, table and picture in a folder."""
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, "rows.json"), rows)
    points = summary(rows)
    with replacing(os.path.join(folder, "table.md")) as path:
        with open(path, "w") as file:
            file.write(table(points) + "\n")
    with replacing(os.path.join(folder, "sweep.png")) as path:
        sweep_plot.draw(points).savefig(path, dpi=150)


def main(argv):
    with program.exits():
        program.start(argv)
        program.set_up(FLAGS.num_threads)
        settings = Settings(
            prices=tuple(map(float, FLAGS.prices)),
            epochs=FLAGS.epochs,
            finetune_epochs=FLAGS.finetune_epochs,
            image_size=FLAGS.image_size,
        )
        data = input_pipeline.load(
            FLAGS.dataset, FLAGS.data_dir, FLAGS.manual_dir, settings.image_size
        )
        for network in FLAGS.networks:
            check_network(network)
        for network in FLAGS.networks:
            for seed in FLAGS.seeds:
                Sweep(network, int(seed), settings, data, FLAGS.workdir).run()
    rows = collect(FLAGS.workdir)
    save(rows, FLAGS.save_to or FLAGS.workdir)
    print(table(summary(rows)))


def run():
    """The console command."""
    program.run(main, define_flags)


if __name__ == "__main__":
    run()
