"""The test error of models in any form."""

import functools

import keras
import numpy as np

import l0keras
from trainers.data.phones import IGNORED


def predict(model, data):
    """The logits of all test examples.

    Args:
        model: a Keras model, or the path of a .tflite file.
        data: what `input_pipeline.load` returns.

    Returns:
        A float32 array `(examples, classes)`, or `(examples, steps, classes)`
        of sequences.

    Raises:
        ValueError: a model for examples of another shape.
    """
    if isinstance(model, str):
        run = functools.partial(l0keras.export.run_tflite, model)
    else:
        shape = tuple(model.input_shape[1:])
        if shape != data.input_shape:
            raise ValueError(
                "The model must be one for examples as in the data set, of "
                f"shape {data.input_shape}. Received: a model for {shape}"
            )
        run = model.predict_on_batch
    return np.concatenate([run(images) for images, _ in data.test_batches()])


def error_percent(logits, data):
    """The share of test labels that logits get wrong, in percent.

    Args:
        logits: what `predict` returns.
        data: what `input_pipeline.load` returns; labels that are `IGNORED` do
            not count.

    Returns:
        A float.
    """
    counts = data.test_labels != IGNORED
    wrong = (np.argmax(logits, axis=-1) != data.test_labels)[counts]
    return 100.0 * int(np.sum(wrong)) / len(wrong)


def loss():
    """The mean cross entropy of logits over all labels but `IGNORED`.

    Labels and logits have an axis for the batch and may have more, such as
    one for steps; logits have one for the classes behind them.

    Returns:
        A `keras.losses.Loss`.
    """
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=IGNORED
    )


class Accuracy(keras.metrics.SparseCategoricalAccuracy):
    """The share of right predictions among all labels but `IGNORED`.

    Args:
        name, dtype: as of all Keras metrics.
    """

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts a batch.

        Args:
            y_true: integer labels.
            y_pred: logits, with an axis for the classes behind the labels'.
            sample_weight: weights of the labels, or `None`.
        """
        counts = keras.ops.cast(
            keras.ops.not_equal(y_true, IGNORED), self.dtype
        )
        if sample_weight is not None:
            counts = counts * keras.ops.cast(sample_weight, self.dtype)
        return super().update_state(y_true, y_pred, counts)
