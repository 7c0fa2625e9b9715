import keras
import numpy as np


class RaiseOnNaN(keras.callbacks.Callback):
    """Ends training with an error as soon as the loss is not finite.

    This callback raises before the callbacks at the end of the epoch run, so
    none of them saves a broken model. `keras.callbacks.TerminateOnNaN` either
    ends `fit` as if training had gone well, or raises an error without a type
    of its own.

    Raises:
        NonFiniteError: from `fit`, with the epoch and the step.

    Example:

    >>> model.fit(x, y, callbacks=[RaiseOnNaN()])
    """

    def __init__(self):
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            raise NonFiniteError(
                f"The loss is {float(loss)} by step {batch + 1} of epoch "
                f"{self._epoch + 1}."
            )


class NonFiniteError(FloatingPointError):
    """A loss or a weight became NaN or infinite while training."""
