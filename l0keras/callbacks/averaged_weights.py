import contextlib

import keras
from keras import ops


@contextlib.contextmanager
def averaged_weights(model):
    """Gives a model its averaged weights within a `with` block.

    Keras optimizers with `use_ema=True` keep an average of each trainable
    variable, gates included. After the block the model has exactly its own
    weights again. Keras's `SwapEMAWeights` swaps by adding and subtracting,
    so each of its evaluations rounds the weights of the training.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 4: "temporal averaging".

    Args:
        model: a compiled model. If its optimizer keeps no averages, or has
            not made a step yet, its weights stay the same.

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
    """Evaluates a model with its averaged weights; training keeps its own.

    For optimizers with `use_ema=True`; with other optimizers it changes
    nothing. Unlike Keras's `SwapEMAWeights` it does not round the weights,
    see `averaged_weights`.

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
