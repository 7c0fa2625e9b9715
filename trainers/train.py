"""Trains a network to be sparse, strips it and exports it.

    python -m trainers.train --model=lenet5 --dataset=mnist --method=l0 \
        --l0_lambda=0.1 --epochs=200 --workdir=runs/lenet5

The same command again resumes a run that was stopped, whichever way, and
shows the table of one that is finished.
"""

import json
import os
import sys

import keras
from absl import app
from absl import flags
from absl import logging

from l0keras import callbacks
from trainers import config as config_lib
from trainers import devices
from trainers import input_pipeline
from trainers import results
from trainers.history import HistoryCsv
from trainers.progress import Progress
from trainers.workdir import Workdir

FLAGS = flags.FLAGS
# Steps in one call of the compiled function, at most: more gain nothing.
MAX_STEPS_PER_EXECUTION = 50


def train(
    config,
    workdir,
    data_dir=None,
    manual_dir=None,
    steps_per_execution=0,
):
    """Trains, or goes on with training, and leaves the results behind.

    Args:
        config: a `Config`.
        workdir: the folder for everything that the run leaves behind.
        data_dir, manual_dir: see `input_pipeline.load`.
        steps_per_execution: steps in one call of the compiled training
            function, a divisor of the steps in an epoch; 0 chooses one.

    Returns:
        The report, a dict, as in the workdir's `report.json`.

    Raises:
        ValueError: an argument out of its range, a workdir of another
            experiment, or a damaged checkpoint; before any training.
        NonFiniteError: the training diverged; the checkpoint is that of the
            last good epoch.
    """
    folder = Workdir(workdir, config.to_json())
    try:
        if os.path.exists(folder.file("report.json")):
            with open(folder.file("report.json")) as file:
                return json.load(file)
        data = input_pipeline.load(
            config.dataset, data_dir, manual_dir, config.image_size
        )
        keras.utils.set_random_seed(config.seed)
        checkpoint = callbacks.Checkpoint(folder.file("checkpoint.npz"))
        model = fit(config, data, folder, checkpoint, steps_per_execution)
        # `fit` ends with the averaged weights alone.
        checkpoint.restore(model)
        return results.write(config, data, model, checkpoint.history, folder)
    finally:
        folder.close()


def fit(config, data, folder, checkpoint, steps_per_execution=0):
    """Trains to the last epoch, from the checkpoint where there is one.

    Args:
        config: a `Config`.
        data: a `Data`.
        folder: a `Workdir`.
        checkpoint: an `l0keras.callbacks.Checkpoint`.
        steps_per_execution: see `train`.

    Returns:
        The trained model, compiled.
    """
    strategy = devices.make_strategy(config.strategy)
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise ValueError(
            f"Argument `batch_size` must be a multiple of the {replicas} "
            f"replicas. Received: batch_size={config.batch_size}"
        )
    # A smaller last batch would give replicas unequal shares, or none.
    drop_remainder = replicas > 1
    steps = data.steps_per_epoch(config.batch_size, drop_remainder)
    with strategy.scope():
        model = config.build(
            data.input_shape, data.classes, len(data.train_labels)
        )
        model.compile(
            optimizer=_optimizer(config),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            steps_per_execution=_steps_per_execution(
                steps_per_execution, steps
            ),
            jit_compile=False,
        )
    first_epoch = checkpoint.restore(model)
    if first_epoch:
        logging.info("Resuming after epoch %d.", first_epoch)
    batches = data.train_batches(
        config.batch_size,
        config.seed,
        config.epochs,
        first_epoch,
        drop_remainder,
    )
    model.fit(
        batches,
        epochs=config.epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=steps,
        validation_data=data.test_batches(),
        callbacks=[
            callbacks.TerminateOnNaN(),
            callbacks.EvaluateAveraged(),
            callbacks.GateLogger(),
            checkpoint,
            HistoryCsv(folder.file("history.csv"), checkpoint),
            keras.callbacks.TensorBoard(
                folder.file("tensorboard"), write_graph=False
            ),
            Progress(steps),
        ],
        shuffle=False,
        verbose=0,
    )
    return model


def _optimizer(config):
    name = {"adam": "Adam", "sgd": "SGD"}[config.optimizer]
    ema = {}
    if config.ema_momentum:
        ema = {"use_ema": True, "ema_momentum": config.ema_momentum}
    return getattr(keras.optimizers, name)(config.learning_rate, **ema)


def _steps_per_execution(wanted, steps):
    # A last call that is not full would run on into the next epoch.
    divisors = [
        divisor
        for divisor in range(1, MAX_STEPS_PER_EXECUTION + 1)
        if steps % divisor == 0
    ]
    if not wanted:
        return divisors[-1]
    if wanted < 0 or steps % wanted:
        raise ValueError(
            f"Argument `steps_per_execution` must divide the {steps} steps "
            f"of an epoch, or be 0. Received: "
            f"steps_per_execution={wanted}"
        )
    return wanted


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    config_lib.define_flags(flag_values)
    config_lib.define_data_flags(flag_values)
    config_lib.define_device_flags(flag_values)
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder for everything that the run leaves behind.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "steps_per_execution",
        0,
        "Steps in one call of the compiled training function, a divisor of "
        "the steps in an epoch; 0 chooses one.",
        flag_values=flag_values,
    )


def main(argv):
    if len(argv) > 1:
        sys.exit(f"error: unknown arguments: {' '.join(argv[1:])}")
    try:
        config = config_lib.from_flags()
        devices.set_up(FLAGS.num_threads, config.num_logical_cpus)
        report = train(
            config,
            FLAGS.workdir,
            FLAGS.data_dir,
            FLAGS.manual_dir,
            FLAGS.steps_per_execution,
        )
    except (ValueError, callbacks.NonFiniteError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command goes on from here.")
    print(results.table(report))


def run():
    """The console command."""
    define_flags()
    flags.adopt_module_key_flags(config_lib)
    app.run(main)


if __name__ == "__main__":
    run()
