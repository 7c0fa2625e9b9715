"""The table of a run's epochs."""

import csv
import sys
import time
import warnings

import keras

from l0keras import callbacks
from trainers.run.workdir import replacing

METRIC = "val_accuracy"

BAR = 24


class HistoryCsv(keras.callbacks.Callback):
    """Writes the history of a `Checkpoint` as a table, a row for each epoch.

    The table is made anew from the checkpoint each time, so that it never
    has an epoch twice however often the run was resumed.

    Args:
        path: where to write.
        checkpoint: an `l0keras.callbacks.Checkpoint`, further up in the list
            of callbacks.
        before: the rows of epochs before those of the checkpoint.
    """

    def __init__(self, path, checkpoint, before=()):
        super().__init__()
        self._path = path
        self._checkpoint = checkpoint
        self._before = list(before)

    def on_train_begin(self, logs=None):
        self._write()

    def on_epoch_end(self, epoch, logs=None):
        self._write()

    def _write(self):
        rows = self._before + self._checkpoint.history
        if not rows:
            return
        names = dict.fromkeys(name for row in rows for name in row)
        with replacing(self._path) as path, open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(names))
            writer.writeheader()
            writer.writerows(rows)


class Progress(keras.callbacks.Callback):
    """One line for each epoch, and a bar within the epoch on a terminal.

    Args:
        steps: the number of steps in an epoch.
        split: what the validation metrics are those of.
        file: where to write, `sys.stdout` by default.
    """

    def __init__(self, steps, split="test", file=None):
        super().__init__()
        self._steps = steps
        self._split = split
        self._file = file or sys.stdout
        self._terminal = self._file.isatty()
        self._drawn = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if not self._terminal or now - self._drawn < 0.1:
            return
        self._drawn = now
        done = (batch + 1) / self._steps
        filled = int(BAR * done)
        bar = "━" * filled + "╌" * (BAR - filled)
        loss = (logs or {}).get("loss", float("nan"))
        self._write(f"\r{self._head()}  {bar} {done:4.0%}  loss {loss:.4f}")

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        seconds = time.perf_counter() - self._began
        parts = [self._head(), f"loss {logs['loss']:.4f}"]
        if "val_accuracy" in logs:
            error = 100 * (1 - logs["val_accuracy"])
            parts.append(f"{self._split} error {error:5.2f} %")
        units = [
            str(value) for name, value in logs.items() if name.endswith("_open")
        ]
        if units:
            parts.append("-".join(units))
        parts.append(f"{seconds:.1f} s")
        start, end = ("\r", "\033[K\n") if self._terminal else ("", "\n")
        self._write(start + "  ".join(parts) + end)

    def _head(self):
        epochs = self.params["epochs"]
        return f"epoch {self._epoch + 1:{len(str(epochs))}}/{epochs}"

    def _write(self, text):
        self._file.write(text)
        self._file.flush()


class SayOpenGates(callbacks.WarnOpenGates):
    """Prints why no gate has closed, with the flags to change.

    Args:
        file: where to write, `sys.stdout` by default.
    """

    def __init__(self, file=None):
        super().__init__(
            more_steps=(
                "--epochs; or --gate_learning_rate; or ask for a size, "
                "--target_macs or --target_params"
            ),
            higher_price=(
                "--l0_lambda; or ask for a size, --target_macs or "
                "--target_params"
            ),
        )
        self._file = file or sys.stdout

    def on_train_end(self, logs=None):
        with warnings.catch_warnings(record=True) as caught:
            # What else there is to warn of is not about the training.
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            super().on_train_end(logs)
        for warning in caught:
            self._file.write(f"warning: {warning.message}\n")
        self._file.flush()


class EarlyStopping(keras.callbacks.Callback):
    """Stops a training when the validation accuracy has stopped growing.

    Unlike `keras.callbacks.EarlyStopping` it decides by the history of a
    `Checkpoint`, so that a training that was resumed stops where it would
    have stopped.

    Args:
        patience: how many epochs may pass without a better one.
        checkpoint: an `l0keras.callbacks.Checkpoint`, further up in the list
            of callbacks.
    """

    def __init__(self, patience, checkpoint):
        super().__init__()
        self._patience = patience
        self._checkpoint = checkpoint

    @property
    def is_over(self):
        """Whether so many epochs have passed."""
        values = [row[METRIC] for row in self._checkpoint.history]
        if not values:
            return False
        return len(values) - 1 - values.index(max(values)) >= self._patience

    def on_epoch_end(self, epoch, logs=None):
        if self.is_over:
            self.model.stop_training = True


def keep_best(path, checkpoint):
    """A callback that keeps the weights of the best epoch so far.

    Args:
        path: the file, whose name ends in `.weights.h5`.
        checkpoint: an `l0keras.callbacks.Checkpoint` that was restored.
    """
    values = [row[METRIC] for row in checkpoint.history]
    return keras.callbacks.ModelCheckpoint(
        path,
        monitor=METRIC,
        mode="max",
        save_best_only=True,
        save_weights_only=True,
        initial_value_threshold=max(values) if values else None,
    )
