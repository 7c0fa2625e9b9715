"""One training run, from its settings to its results."""

import json
import os

import keras

import l0keras
from l0keras import callbacks
from trainers.data import input_pipeline
from trainers.run import metrics
from trainers.run import networks
from trainers.run import program
from trainers.run import results
from trainers.run.callbacks import EarlyStopping
from trainers.run.callbacks import HistoryCsv
from trainers.run.callbacks import Progress
from trainers.run.callbacks import SayOpenGates
from trainers.run.callbacks import keep_best
from trainers.run.optimizers import make_optimizer
from trainers.run.optimizers import make_tuning_optimizer
from trainers.run.workdir import Workdir
from trainers.run.workdir import replacing

# Steps in one call of the compiled function, at most: more gain nothing.
MAX_STEPS_PER_EXECUTION = 50
# The weights of the best epoch, where epochs are validated.
BEST = "best.weights.h5"
# The network that was cut to its targets, before it is trained on.
CUT = "cut.keras"


class Training:
    """A run that is ready to start, or to go on where it was stopped.

    All that can be wrong with its settings is found out here, before any
    training.

    Args:
        config: a `Config`.
        workdir: the folder for everything that the run leaves behind.
        data_dir, manual_dir: see `input_pipeline.load`.
        steps_per_execution: steps in one call of the compiled training
            function, a divisor of the steps in an epoch; 0 chooses one.
        held_out: whether the `validation_examples` stand in for the test
            examples in the results too, by which something is to be chosen.

    Attributes:
        finished: the report of a run that had been finished before, or
            `None`.

    Raises:
        ValueError: an argument out of its range, a workdir of another
            experiment, or a damaged checkpoint. Nothing was overwritten.
    """

    def __init__(
        self,
        config,
        workdir,
        data_dir=None,
        manual_dir=None,
        steps_per_execution=0,
        held_out=False,
    ):
        self._config = config
        self._held_out = held_out
        settings = config.to_json()
        if held_out:
            settings["errors"] = "of held-out examples"
        self._folder = Workdir(workdir, settings, type(config)().to_json())
        try:
            self.finished = self._finished()
            if self.finished is None:
                self._prepare(data_dir, manual_dir, steps_per_execution)
                self._folder.claim()
        except BaseException:
            self._folder.close()
            raise

    def run(self):
        """Trains to the last epoch and leaves the results in the workdir.

        Returns:
            The report, a dict, as in the workdir's `report.json`.

        Raises:
            NonFiniteError: the training diverged; the checkpoint is that of
                the last good epoch.
        """
        try:
            if self.finished is not None:
                return self.finished
            self._fit()
            # `fit` ends with the averaged weights, and without the others.
            self._checkpoint.restore(self._model)
            if self._stopping:
                self._model.load_weights(self._folder.file(BEST))
            trained = results.without_optimizer(
                self._config,
                self._data,
                self._model,
                self._steps,
                self._shrinking,
            )
            if self._config.is_cut:
                trained = self._cut(trained)
            return results.write(
                self._config,
                self._data,
                self._model,
                trained,
                self._history + self._checkpoint.history,
                self._folder,
            )
        finally:
            self._folder.close()

    def _finished(self):
        path = self._folder.file("report.json")
        if not os.path.exists(path):
            return None
        with open(path) as file:
            return json.load(file)

    def _prepare(self, data_dir, manual_dir, steps_per_execution):
        config = self._config
        strategy = program.make_strategy(config.strategy)
        replicas = strategy.num_replicas_in_sync
        if config.batch_size % replicas:
            raise ValueError(
                f"Argument `batch_size` must be a multiple of the {replicas} "
                f"replicas. Received: batch_size={config.batch_size}"
            )
        self._data = input_pipeline.load(
            config.dataset,
            data_dir,
            manual_dir,
            config.image_size,
            config.augmentation,
        )
        if self._held_out:
            self._data = self._data.without_test(
                config.validation_examples, config.seed
            )
        self._validation = self._data.test_batches()
        if config.validation_examples and not self._held_out:
            self._data, self._validation = self._data.hold_out(
                config.validation_examples, config.seed
            )
        self._validation = _for_replicas(self._validation, replicas)
        # A smaller last batch would give replicas unequal shares, or none.
        self._drop_remainder = replicas > 1
        self._steps = self._data.steps_per_epoch(
            config.batch_size, self._drop_remainder
        )
        if not self._steps:
            raise ValueError(
                "Argument `batch_size` must be at most the number of training "
                f"examples, {self._data.num_train}. "
                f"Received: batch_size={config.batch_size}"
            )
        self._strategy = strategy
        self._steps_per_execution = _steps_per_execution(
            steps_per_execution, self._steps, replicas
        )
        keras.utils.set_random_seed(config.seed)
        with strategy.scope(), program.dtype_policy(config.precision):
            self._model = networks.build(
                config,
                self._data.input_shape,
                self._data.classes,
                self._data.num_train,
                self._data.normalization,
                self._steps,
            )
            self._compile(make_optimizer(config, self._steps, self._model))
        self._shrinking = None
        if config.shrink:
            self._shrinking = l0keras.Shrinking(self._steps, config.batch_size)
        self._checkpoint = callbacks.Checkpoint(
            self._folder.file("checkpoint.npz"), self._shrinking
        )
        self._model, self._first_epoch = self._checkpoint.resume(self._model)
        # The rows of epochs that other checkpoints know.
        self._history = []
        self._stopping = None
        if config.patience:
            self._stopping = EarlyStopping(config.patience, self._checkpoint)

    def _compile(self, optimizer):
        self._model.compile(
            optimizer=optimizer,
            loss=metrics.loss(),
            metrics=[metrics.Accuracy()],
            steps_per_execution=self._steps_per_execution,
            # On the CPU, measured, it makes LeNet-5 twice as slow.
            jit_compile=False,
        )

    def _fit(self):
        config = self._config
        last = config.epochs + config.finetune_epochs
        if 0 < self._first_epoch < last:
            print(f"Going on after epoch {self._first_epoch}.")
        self._fit_until(config.epochs)
        if self._first_epoch < last and not config.is_cut:
            self._freeze_gates()
            self._fit_until(last)

    def _freeze_gates(self):
        """Lets the rest of training have test gates and no penalty.

        The optimizer stays the same, with its momenta and its schedule.
        """
        networks.freeze_gates(self._model)
        with self._strategy.scope():
            self._compile(self._model.optimizer)

    def _cut(self, trained):
        """Cuts the network to its targets and trains the small one on.

        Args:
            trained: a `results.Trained`, with the gated network.

        Returns:
            One with the small network too.
        """
        config = self._config
        path = self._folder.file(CUT)
        if not os.path.exists(path):
            small = l0keras.cut(trained.model)
            batches = self._data.train_batches(
                config.batch_size, config.seed, 1
            )
            callbacks.refresh_batch_norm(small, batches)
            with replacing(path) as draft:
                small.save(draft)
        small = keras.saving.load_model(path)
        self._history = self._checkpoint.history
        with self._strategy.scope():
            self._model = keras.saving.load_model(path)
            self._compile(make_tuning_optimizer(config, self._steps))
        self._checkpoint = callbacks.Checkpoint(
            self._folder.file("finetune.npz")
        )
        last = config.epochs + config.finetune_epochs
        self._first_epoch = config.epochs
        self._first_epoch += self._checkpoint.restore(self._model)
        self._fit_until(last)
        self._checkpoint.restore(self._model)
        return results.with_small(trained, self._model, small, self._data)

    def _fit_until(self, epochs):
        config = self._config
        if self._first_epoch >= epochs:
            return
        if self._stopping and self._stopping.is_over:
            return
        best, stopping = [], []
        if self._stopping:
            # Before the checkpoint: an epoch that is saved was compared.
            file = self._folder.file(BEST)
            best = [keep_best(file, self._checkpoint)]
            stopping = [self._stopping]
        told = [
            callbacks.TerminateOnNaN(),
            callbacks.EvaluateAveraged(),
            callbacks.GateLogger(),
            SayOpenGates(),
            callbacks.ConnectionLogger(),
            callbacks.GroupLogger(),
            *best,
            self._checkpoint,
            *stopping,
            HistoryCsv(
                self._folder.file("history.csv"),
                self._checkpoint,
                self._history,
            ),
            keras.callbacks.TensorBoard(
                self._folder.file("tensorboard"), write_graph=False
            ),
            Progress(
                self._steps,
                "validation" if config.validation_examples else "test",
            ),
        ]

        def arguments(epoch):
            batches = self._data.train_batches(
                config.batch_size,
                config.seed,
                epochs,
                epoch,
                self._drop_remainder,
            )
            return {
                "x": batches,
                "steps_per_epoch": self._steps,
                "validation_data": self._validation,
                "shuffle": False,
                "verbose": 0,
            }

        span = {"epochs": epochs, "initial_epoch": self._first_epoch}
        # Frozen gates have come to rest, and what was cut to a size has none.
        shrinks = not config.is_gated or epochs == config.epochs
        if self._shrinking and shrinks:
            self._model = self._shrinking.fit(
                self._model, arguments, callbacks=told, **span
            )
        else:
            self._model.fit(
                **arguments(self._first_epoch), callbacks=told, **span
            )
        self._first_epoch = epochs


def train(config, workdir, **kwargs):
    """Trains a network; the arguments are those of `Training`.

    Returns:
        The report, a dict, as in the workdir's `report.json`.
    """
    return Training(config, workdir, **kwargs).run()


def _for_replicas(batches, replicas):
    """Batches of which the first gives each replica as much.

    Keras 3.15 takes the mean of its parts, to know the shapes.
    """
    if replicas == 1:
        # Nothing is to be read before it is needed.
        return batches
    size = len(next(iter(batches))[1])
    if size % replicas == 0:
        return batches
    if size < replicas:
        raise ValueError(
            f"Argument `strategy` must have at most {size} replicas, one for "
            f"each example to validate on. Received: {replicas} replicas"
        )
    return batches.unbatch().batch(size - size % replicas)


def _steps_per_execution(wanted, steps, replicas):
    if replicas > 1:
        # Keras 3.15 fails on more, with an error about a placeholder.
        if wanted not in (0, 1):
            raise ValueError(
                "Argument `steps_per_execution` must be 1, or 0, with several "
                f"replicas. Received: steps_per_execution={wanted}"
            )
        return 1
    # A last call that is not full would run on into the next epoch.
    if not wanted:
        return max(
            divisor
            for divisor in range(1, MAX_STEPS_PER_EXECUTION + 1)
            if steps % divisor == 0
        )
    if wanted < 0 or steps % wanted:
        raise ValueError(
            f"Argument `steps_per_execution` must divide the {steps} steps of "
            f"an epoch, or be 0. Received: steps_per_execution={wanted}"
        )
    return wanted
