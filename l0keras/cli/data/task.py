"""What a model reads and what its loss compares its outputs with."""

import dataclasses
import re

import keras
import numpy as np

from l0keras.graph.trace import as_functional


@dataclasses.dataclass(frozen=True)
class Task:
    """The shapes of a model, and the form of its labels.

    Attributes:
        input_shape: that of one example, a tuple with `None` for free sizes.
        input_dtype: a string.
        output_shape: that of one example, a tuple.
        loss: the name of the loss in snake case; empty where there is none.
        logits: whether outputs are logits; they are probabilities, or
            values, otherwise.
    """

    input_shape: tuple
    input_dtype: str
    output_shape: tuple
    loss: str
    logits: bool = False

    @property
    def outputs(self):
        """The number of outputs along the last axis, classes mostly."""
        return self.output_shape[-1] if self.output_shape else 1

    @property
    def classes(self):
        """How many classes the outputs tell apart; one output tells two."""
        return max(2, self.outputs)

    @property
    def sparse(self):
        """Whether the loss takes the number of a class, not a row of 0 and 1.

        Without a loss labels are only compared, and numbers do.
        """
        return "sparse" in self.loss or not self.loss

    def label(self, numbers):
        """Numbers of classes in the form that the loss takes.

        Args:
            numbers: an integer tensor `(batch, ...)`.

        Returns:
            A tensor.
        """
        import tensorflow as tf

        if self.outputs == 1:
            return tf.cast(tf.expand_dims(numbers, -1), "float32")
        if self.sparse:
            return tf.cast(numbers, "int32")
        return tf.one_hot(numbers, self.outputs)


def task_of(model, loss=None):
    """The `Task` of a model.

    Args:
        model: a `keras.Model`.
        loss: the name of a loss, in the place of the model's own.

    Raises:
        ValueError: the model has several inputs or outputs, or is not built.
    """
    functional = as_functional(model)
    for name, tensors in (
        ("input", functional.inputs),
        ("output", functional.outputs),
    ):
        if len(tensors) != 1:
            raise ValueError(
                f"Argument `MODEL` must have one {name} where data are read; "
                "models with several are compressed in Python, with "
                f"`l0keras.compress`. Received: {len(tensors)} {name}s, "
                f"{', '.join(tensor.name for tensor in tensors)}"
            )
    (inputs,), (outputs,) = functional.inputs, functional.outputs
    return Task(
        input_shape=tuple(inputs.shape[1:]),
        input_dtype=keras.backend.standardize_dtype(inputs.dtype),
        output_shape=tuple(outputs.shape[1:]),
        loss=loss_name(loss or getattr(model, "loss", None)),
    )


def are_logits(outputs, loss=""):
    """Whether outputs of classes are logits, not probabilities.

    Args:
        outputs: an array, of outputs for as many inputs as can be had.
        loss: the name of the loss, as in `Task`.
    """
    outputs = np.asarray(outputs, "float64")
    # Half precision and quantization miss these numbers by a little.
    if np.min(outputs) < -0.01 or np.max(outputs) > 1.01:
        return True
    alone = outputs.shape[-1] == 1 or "categorical" not in loss
    return not alone and bool(np.any(np.abs(outputs.sum(-1) - 1) > 0.02))


def loss_name(loss):
    """The name of a loss in snake case; empty if there is none.

    Args:
        loss: what `compile` takes: a name, an object, a function, or these in
            a list or a dictionary of one.
    """
    flat = keras.tree.flatten(loss)
    if not flat or flat[0] is None:
        return ""
    name = flat[0]
    if not isinstance(name, str):
        name = getattr(name, "__name__", None) or type(name).__name__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def labels_from(array, task, name="y"):
    """Labels of an array: numbers of classes, or values of the outputs.

    Args:
        array: a numpy array with a batch axis.
        task: the `Task`.
        name: of the array, for the texts of errors.

    Returns:
        A pair: an array, and whether it has numbers of classes, int32, which
        `Task.label` brings into the form of the loss, or values of the shape
        of the outputs, float32.

    Raises:
        ValueError: the array does not fit the outputs.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"Array `{name}` must hold numbers. Received: dtype {array.dtype}"
        )
    shape, outer = array.shape[1:], task.output_shape[:-1]
    # One number in a column of its own, as some files have them.
    if shape == (*outer, 1):
        array, shape = array[..., 0], outer
    whole = array.dtype.kind in "bui" or bool(np.all(array == np.round(array)))
    counts = shape == outer and whole
    if task.outputs == 1:
        entropy = not task.loss or "crossentropy" in task.loss
        if shape == outer and entropy and counts:
            check_range(array.min(), array.max(), task, name)
            return array.astype("int32"), True
        if shape == outer:
            return array.astype("float32")[..., None], False
    elif counts:
        check_range(array.min(), array.max(), task, name)
        return array.astype("int32"), True
    elif shape == task.output_shape:
        one_hot = np.isin(array, (0, 1)).all() and (array.sum(-1) == 1).all()
        if one_hot:
            return np.argmax(array, -1).astype("int32"), True
        if not task.sparse or not task.loss:
            return array.astype("float32"), False
    raise ValueError(
        f"Array `{name}` must have numbers of classes, of shape "
        f"{('examples', *outer)}, or values of the outputs, of shape "
        f"{('examples', *task.output_shape)}, and fit the loss "
        f"{task.loss or '(none)'}. Received: shape {array.shape}, "
        f"dtype {array.dtype}"
    )


def check_range(smallest, largest, task, name):
    """Refuses numbers of classes that the model has no output for."""
    if smallest < 0 or largest >= task.classes:
        raise ValueError(
            f"The labels in {name} must be from 0 to {task.classes - 1}, as "
            f"the model tells {task.classes} classes apart. Received: "
            f"{smallest} to {largest}"
        )
