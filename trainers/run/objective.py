"""What training minimizes and counts, where some labels do not count."""

import keras

# The label of what has no class, such as padding.
IGNORED = -1


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
