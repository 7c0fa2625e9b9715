"""The test error of models in any form."""

import numpy as np

import l0keras
from trainers.input_pipeline import EVAL_BATCH_SIZE


def predict(model, data):
    """The logits of all test images.

    Args:
        model: a Keras model, or the path of a .tflite file.
        data: a `Data`.

    Returns:
        A float32 array `(examples, classes)`.

    Raises:
        ValueError: a model for images of another shape.
    """
    if isinstance(model, str):
        return l0keras.export.run_tflite(
            model, data.scale(data.test_images), EVAL_BATCH_SIZE
        )
    shape = tuple(model.input_shape[1:])
    if shape != data.input_shape:
        raise ValueError(
            "The model must be one for images as in the data set, of shape "
            f"{data.input_shape}. Received: a model for {shape}"
        )
    return np.concatenate(
        [model.predict_on_batch(images) for images, _ in data.test_batches()]
    )


def error_percent(logits, data):
    """The share of test examples that logits get wrong, in percent."""
    wrong = np.argmax(logits, axis=-1) != data.test_labels
    return 100.0 * int(np.sum(wrong)) / len(wrong)
