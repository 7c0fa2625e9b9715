r"""Compares ways to hold gates to a size that is asked for.

    python -m trainers.studies.controllers --workdir=runs/controllers \
        --num_threads=1 --manual_dir=MNIST --save_to=saved_models/controllers

trains a network on MNIST, asks for shares of its multiply-accumulates and of
its parameters, with the controller of the library and with others from the
literature, cuts and trains further, and shows sizes and errors at each stage
as tables and a picture. Errors are those on 10,000 examples that are held out
of the training set: a controller is chosen by them, so the test set is not
used. Each cell has a folder of its own. The same command goes on where it was
stopped; with `--rows` or `--seeds` several processes share the work.
"""

import dataclasses
import functools
import json
import math
import os
import time

import keras
from absl import flags

import l0keras
from l0keras.targets import size_of
from trainers.data import input_pipeline
from trainers.run import metrics
from trainers.run import networks
from trainers.run import program
from trainers.run.tables import NAMES
from trainers.run.workdir import Workdir
from trainers.run.workdir import replacing
from trainers.run.workdir import write_json
from trainers.studies import controller_plot
from trainers.studies import controller_tables
from trainers.studies import multipliers
from trainers.studies import study
from trainers.studies.controller_tables import TITLES

FLAGS = flags.FLAGS
MULTIPLIERS = {
    "lagrange": multipliers.Lagrange,
    "nu_pi": multipliers.NuPI,
    "composed": multipliers.Composed,
}
SHARES = (0.5, 0.25, 0.1, 0.05, 0.02)
FLAGFILES = {"mlp": "mnist_mlp_l0_target", "lenet5": "mnist_lenet5_l0_target"}
HELD_OUT = 10_000
# Batches by which `calibrate` measures.
CALIBRATION = 20
DENSE = "dense.keras"
# Steps in one call of the compiled function.
AT_ONCE = 50


@dataclasses.dataclass(frozen=True)
class Row(study.Row):
    """A cell: a size and a controller, see `study.Row`.

    Args:
        controller: one of `TITLES`, `None` for the dense network.
        of, share: the size that is asked for, as of `l0keras.targets.Target`.
    """

    controller: str | None = None
    of: str | None = None
    share: float | None = None

    def config(self, seed):
        config = super().config(seed)
        return config if self.controller else config.without_sparsity()


def rows(model, shares=SHARES, **changes):
    """The dense network, and a row for each size and controller.

    Args:
        model: one of `FLAGFILES`.
        shares: the sizes, as shares of the dense network's.
        **changes: settings that differ from the flagfile.

    Returns:
        A tuple of `Row`; those of a size are neighbors.
    """
    flagfile = FLAGFILES[model]
    changes = {
        "target_params": 0.0,
        "validation_examples": HELD_OUT,
        "ema_momentum": 0.0,
        **changes,
    }
    cells = [
        Row(
            f"{of}_{share:g}_{controller}",
            f"{100 * share:g} % of the {NAMES[of]}, {TITLES[controller]}",
            flagfile,
            {**changes, f"target_{of}": share},
            controller,
            of,
            share,
        )
        for of in ("macs", "params")
        for share in shares
        for controller in TITLES
    ]
    dense = {**changes, "target_params": 0.5}
    return (Row("dense", "dense", flagfile, dense), *cells)


class Controllers(study.Study):
    """Sizes and errors that controllers come to."""

    def result(self, row, seed, folder, where):
        """See `Study.result`.

        Returns:
            Of a cell also `of`, `share`, `controller`; `expected`, `strip` and
            `cut`, sizes as shares of the dense network's: the expectation at
            the end of the training of gates, what `strip` would leave then,
            and after the cut; `strip_error`, with test gates, `cut_error`,
            right after the cut, and `validation_error`, at the end; and
            `multiplier`, the last one, `None` without any. Of all rows
            `seconds`.
        """
        path = os.path.join(folder, row.last_file)
        if os.path.exists(path):
            with open(path) as file:
                return json.load(file)
        config = row.config(seed)
        workdir = Workdir(folder, config.to_json())
        try:
            data = _data(config, where)
            workdir.claim()
            if row.controller:
                first = self.rows[0]
                dense = first.folder(os.path.dirname(folder), seed)
                self.result(first, seed, dense, where)
                dense = keras.saving.load_model(os.path.join(dense, DENSE))
            keras.utils.set_random_seed(config.seed)
            began = time.perf_counter()
            if row.controller:
                found = _cell(row, config, data, dense)
            else:
                found = _dense(config, data, workdir.file(DENSE))
            seconds = time.perf_counter() - began
            found |= {"name": row.name, "seed": seed, "seconds": seconds}
            write_json(path, found)
            return found
        finally:
            workdir.close()

    def tables(self, results):
        return [
            controller_tables.summary(results),
            controller_tables.cells(results),
        ]

    def draw(self, results):
        return controller_plot.draw(controller_tables.points(results), TITLES)


# === Trainings ===


def _data(config, where):
    data = _load(config.dataset, image_size=config.image_size, **where)
    return data.without_test(config.validation_examples, config.seed)


@functools.lru_cache(1)
def _load(name, **arguments):
    # To read a set takes longer than an epoch.
    return input_pipeline.load(name, **arguments)


def _fit(model, config, data, epochs, schedule=None):
    steps = data.steps_per_epoch(config.batch_size)
    rate = config.learning_rate
    if schedule:
        rate = schedule(rate, epochs * steps)
    model.compile(
        keras.optimizers.Adam(rate),
        metrics.loss(),
        steps_per_execution=math.gcd(steps, AT_ONCE),
        jit_compile=False,
    )
    model.fit(
        data.train_batches(config.batch_size, config.seed, epochs),
        epochs=epochs,
        steps_per_epoch=steps,
        # The data set does so.
        shuffle=False,
        verbose=0,
    )


def _error(model, data):
    return metrics.error_percent(metrics.predict(model, data), data)


def _dense(config, data, file):
    model = networks.build_plain(config, data.input_shape, data.classes)
    _fit(model, config, data, config.epochs)
    with replacing(file) as path:
        model.save(path)
    return {"validation_error": _error(model, data)}


def _cell(row, config, data, dense):
    target = l0keras.targets.Target(row.of, row.share)
    size = size_of(dense, target)
    gated = l0keras.sparsify(
        dense,
        target=target,
        steps=config.epochs * data.steps_per_epoch(config.batch_size),
        # Their own learning rate is that of all rows.
        controller=MULTIPLIERS.get(row.controller, l0keras.GateBudget),
        sample_per=config.sample_per,
        seed=config.seed,
    )
    [budget] = [
        one for one in gated.layers if isinstance(one, l0keras.GateBudget)
    ]
    if isinstance(budget, multipliers.Composed):
        batches = data.train_batches(config.batch_size, config.seed, 1)
        batches = batches.take(CALIBRATION)
        multipliers.calibrate(budget, gated, metrics.loss(), batches)
    _fit(gated, config, data, config.epochs)
    stripped = size_of(l0keras.strip(gated, check=False), target)
    small = l0keras.cut(gated)
    errors = [_error(gated, data), _error(small, data)]
    cosine = keras.optimizers.schedules.CosineDecay
    _fit(small, config, data, config.finetune_epochs, cosine)
    multiplier = None
    if row.controller in MULTIPLIERS:
        multiplier = float(budget.multipliers.numpy()[0])
    return {
        "of": row.of,
        "share": row.share,
        "controller": row.controller,
        "expected": float(budget.expected()[0]) / size,
        "strip": stripped / size,
        "cut": size_of(small, target) / size,
        "strip_error": errors[0],
        "cut_error": errors[1],
        "validation_error": _error(small, data),
        "multiplier": multiplier,
    }


def study_of(model, **changes):
    """The study of a network.

    Args:
        model: one of `FLAGFILES`.
        **changes: settings that differ from its flagfile.
    """
    return Controllers("controllers", rows(model, **changes))


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    study.define_flags(flag_values)
    flags.DEFINE_enum(
        "model",
        "mlp",
        list(FLAGFILES),
        "Network to train.",
        flag_values=flag_values,
    )
    for name, help_text in (
        ("epochs", "Number of epochs with gates."),
        ("finetune_epochs", "Number of epochs after the cut."),
    ):
        flags.DEFINE_integer(
            name,
            3,
            f"{help_text} The dense network is trained for both.",
            lower_bound=1,
            flag_values=flag_values,
        )


main = study.main(
    lambda: study_of(
        FLAGS.model,
        epochs=FLAGS.epochs,
        finetune_epochs=FLAGS.finetune_epochs,
    )
)


if __name__ == "__main__":
    program.run(main, define_flags)
