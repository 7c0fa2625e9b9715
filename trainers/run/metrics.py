"""The test error of models in any form."""

import functools

import numpy as np

import l0keras
from trainers.run.objective import IGNORED


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
