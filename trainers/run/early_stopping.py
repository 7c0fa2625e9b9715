"""Stopping where validation says that nothing better comes."""

import keras

METRIC = "val_accuracy"


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
