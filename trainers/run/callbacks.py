"""The table of a run's epochs."""

import csv

import keras

from trainers.run.workdir import replacing


class HistoryCsv(keras.callbacks.Callback):
    """Writes the history of a `Checkpoint` as a table, a row for each epoch.

    The table is made anew from the checkpoint each time, so that it never
    has an epoch twice however often the run was resumed.

    Args:
        path: where to write.
        checkpoint: an `l0keras.callbacks.Checkpoint`, further up in the list
            of callbacks.
    """

    def __init__(self, path, checkpoint):
        super().__init__()
        self._path = path
        self._checkpoint = checkpoint

    def on_train_begin(self, logs=None):
        self._write()

    def on_epoch_end(self, epoch, logs=None):
        self._write()

    def _write(self):
        rows = self._checkpoint.history
        if not rows:
            return
        with replacing(self._path) as path, open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
