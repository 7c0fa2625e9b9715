import contextlib

import keras

from l0keras.callbacks.averaged_weights import averaged_weights


class EvaluateAveraged(keras.callbacks.Callback):
    """Evaluates on the averaged weights and trains on with the others.

    For optimizers with `use_ema=True`; without, it changes nothing. See
    `averaged_weights` for how this differs from Keras's `SwapEMAWeights`.

    Example:

    >>> model.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.999))
    >>> model.fit(x, y, validation_data=test, callbacks=[EvaluateAveraged()])
    """

    def __init__(self):
        super().__init__()
        self._stack = contextlib.ExitStack()

    def on_test_begin(self, logs=None):
        self._stack.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        self._stack.close()
