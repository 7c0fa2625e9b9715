"""How good models and files are on the same examples."""

import dataclasses
import warnings

import keras
import numpy as np

from l0keras.export.litert.run_tflite import open_tflite
from l0keras.export.litert.run_tflite import run_signature

# A share of right answers up to this times that of a guess says nothing.
CHANCE = 1.5


@dataclasses.dataclass(frozen=True)
class Score:
    """A number, and what it says.

    Attributes:
        name: `"accuracy"`, the share of labels that are found, or
            `"mean squared error"` where labels are values.
        value: a float.
    """

    name: str
    value: float

    def __str__(self):
        if self.name == "accuracy":
            return f"{100 * self.value:.2f} %"
        return f"{self.value:.4g}"


def score(model, batches, task, classes=True):
    """Measures a model or a LiteRT file.

    Args:
        model: a `keras.Model`, or the path of a .tflite file.
        batches: an iterable of pairs of inputs and labels.
        task: the `Task`.
        classes: whether labels say classes.

    Returns:
        A `Score`.
    """
    run = _runner(model)
    found, total = 0.0, 0
    for x, y in batches:
        outputs, y = run(np.asarray(x)), np.asarray(y)
        if classes:
            right = _classes(outputs, task) == _labels(y, outputs, task)
            found += float(np.sum(right))
            total += right.size
        else:
            found += float(
                np.sum(np.square(outputs - y.reshape(outputs.shape)))
            )
            total += outputs.size
    name = "accuracy" if classes else "mean squared error"
    return Score(name, found / max(total, 1))


def warn_of_chance(found, task):
    """Warns of a model that is hardly better than a guess.

    Args:
        found: its `Score`.
        task: the `Task`.
    """
    chance = 1 / task.classes
    if found.name == "accuracy" and found.value <= CHANCE * chance:
        warnings.warn(
            f"The model is right for {found}, where a guess among "
            f"{task.classes} classes is for {100 * chance:.3g} %: it was not "
            "trained, or for inputs in another range (--rescale, --offset) or "
            "another order of classes (--classes)."
        )


def _runner(model):
    if isinstance(model, keras.Model):
        return lambda x: keras.ops.convert_to_numpy(
            model.predict_on_batch(x)
        ).astype("float32")
    interpreter = open_tflite(model)

    def run(x):
        (outputs,) = run_signature(interpreter, x).values()
        return outputs.astype("float32")

    return run


def _classes(outputs, task):
    if task.outputs > 1:
        return np.argmax(outputs, -1)
    return outputs[..., 0] > (0.0 if task.logits else 0.5)


def _labels(y, outputs, task):
    if task.outputs > 1:
        return y if y.ndim < outputs.ndim else np.argmax(y, -1)
    return y.reshape(outputs.shape[:-1]) > 0.5
