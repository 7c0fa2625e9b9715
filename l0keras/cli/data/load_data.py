import dataclasses
import os

import numpy as np

from l0keras.cli.data.arrays import from_arrays
from l0keras.cli.data.folder import from_folder
from l0keras.cli.data.named import from_name
from l0keras.cli.data.scale import check_scale
from l0keras.cli.data.task import Task
from l0keras.cli.data.task import are_logits
from l0keras.cli.data.task import task_of
from l0keras.cli.errors import short

# Of the training examples, which are looked at to name their range.
LOOKED_AT = 320
NAMED = 10


@dataclasses.dataclass(frozen=True)
class Data:
    """Examples as a model and its loss take them.

    Attributes:
        train: a `tf.data.Dataset` of batches of inputs and labels.
        validation: such a data set of examples that are not in `train`.
        num_train: the number of examples in `train`.
        num_validation: that in `validation`.
        classes: whether labels say classes; they are values otherwise.
        task: the `Task` that the examples are for.
    """

    train: object
    validation: object
    num_train: int
    num_validation: int
    classes: bool
    task: Task


def load_data(model, values) -> Data:
    """Opens the data that the flags name, and says what the model is given.

    Args:
        model: the `keras.Model` that the data are for.
        values: the flags.

    Returns:
        A `Data`. Two lines are printed: which examples there are, and the
        range of the inputs.

    Raises:
        ImportError: tensorflow_datasets is needed and not installed.
        ValueError: the data are not as the flags say, do not fit the model,
            or are scaled otherwise than those it was trained on.
    """
    task = task_of(model, values.loss)
    source = _source(values, task)
    factor = 1.0 if values.rescale is None else values.rescale
    train, validation = (
        _formed(dataset, factor, values.offset, task, source.classes)
        for dataset in (source.train, source.validation)
    )
    inputs = _looked_at(train)
    smallest, largest = _range(inputs)
    if source.classes:
        # The last activation is not always where one looks for it.
        outputs = model.predict(inputs, verbose=0)
        task = dataclasses.replace(task, logits=are_logits(outputs, task.loss))
    data = Data(
        train,
        validation,
        source.num_train,
        source.num_validation,
        source.classes,
        task,
    )
    print(_examples(source, task))
    print(
        f"Inputs: {smallest:.4g} to {largest:.4g}, which is {factor:.4g} times "
        f"what is in the data{f' plus {values.offset:g}' * bool(values.offset)}"
        " (--rescale, --offset)"
    )
    if values.rescale is None and not values.offset:
        check_scale(model, data, largest)
    return data


def _looked_at(dataset):
    import tensorflow as tf

    try:
        return first(dataset, LOOKED_AT)
    except tf.errors.OpError as error:
        raise ValueError(
            f"The examples in `data` cannot be read ({short(error)})"
        ) from error


def _range(inputs):
    smallest, largest = float(inputs.min()), float(inputs.max())
    if not np.isfinite([smallest, largest]).all():
        raise ValueError(
            "The inputs in `data` must be finite. Received: "
            f"{smallest} to {largest}"
        )
    return smallest, largest


def _source(values, task):
    path, other = values.data, values.validation_data
    kinds = [os.path.isdir(p) for p in (path, other) if p is not None]
    if len(set(kinds)) > 1:
        raise ValueError(
            "Arguments `data` and `validation_data` must both be folders or "
            f"both be .npz files. Received: data={path}, "
            f"validation_data={other}"
        )
    if kinds[0]:
        return from_folder(path, other, values, task)
    if path.endswith(".npz"):
        return from_arrays(path, other, values, task)
    if other is not None:
        raise ValueError(
            "Argument `validation_data` must be left out where `data` is a "
            f"name of tensorflow_datasets. Received: validation_data={other}"
        )
    return from_name(path, values, task)


def _formed(dataset, factor, offset, task, classes):
    import tensorflow as tf

    squeezed = len(task.input_shape)

    def form(x, y):
        if len(x.shape) == squeezed + 2:
            # Gray images for a model without an axis of channels.
            x = tf.squeeze(x, -1)
        if factor != 1 or offset:
            x = tf.cast(x, "float32") * factor + offset
        x = tf.cast(x, task.input_dtype)
        return x, task.label(y) if classes else y

    dataset = dataset.map(form, tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _examples(source, task):
    text = (
        f"Data: {source.num_train:,} examples to train on, "
        f"{source.num_validation:,} to measure on"
    )
    if not source.classes:
        return text
    text += f", {task.classes} classes"
    if source.names:
        names = [f"{i} {name}" for i, name in enumerate(source.names[:NAMED])]
        names += ["..."] * (len(source.names) > NAMED)
        text += f": {', '.join(names)}"
    return text


def first(dataset, count: int) -> np.ndarray:
    """The first inputs of a data set.

    Args:
        dataset: a `tf.data.Dataset` of batches of inputs and labels.
        count: the largest number of examples.

    Returns:
        An array.
    """
    batches, found = [], 0
    for x, _ in dataset:
        batches.append(x.numpy())
        found += len(batches[-1])
        if found >= count:
            break
    return np.concatenate(batches)[:count]
