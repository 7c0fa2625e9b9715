import contextlib

import keras
from keras import ops


@contextlib.contextmanager
def averaged_weights(model):
    """Puts the averaged weights into a model for the length of a block.

    The averages are those that Keras optimizers with `use_ema=True` keep of
    all trainable variables, gates included. On leaving the block the model
    has its own weights back, to the bit: Keras's `SwapEMAWeights` swaps by
    adding and subtracting, so each of its evaluations rounds the weights
    that training goes on with.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 4: "temporal averaging".

    Args:
        model: a compiled model. One whose optimizer keeps no averages, or
            has not made a step yet, is left as it is.

    Example:

    >>> with averaged_weights(model):
    ...     model.evaluate(images, labels)
    """
    pairs = _pairs(model)
    own = [ops.convert_to_numpy(variable).copy() for variable, _ in pairs]
    for variable, average in pairs:
        variable.assign(ops.convert_to_numpy(average))
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, own):
            variable.assign(value)


def _pairs(model):
    optimizer = model.optimizer
    # Mixed precision wraps the optimizer that keeps the averages.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return []
    if not ops.convert_to_numpy(optimizer.iterations):
        return []
    averages = optimizer._model_variables_moving_average
    return [
        (variable, average)
        for variable, average in zip(model.trainable_variables, averages)
        if average is not None
    ]


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
