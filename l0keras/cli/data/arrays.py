"""Arrays in an .npz file."""

import numpy as np

from l0keras.cli.data.source import Source
from l0keras.cli.data.source import share_held_out
from l0keras.cli.data.task import labels_from

# Names of inputs and labels, as Keras and numpy users write them.
_TRAIN = (("x", "y"), ("x_train", "y_train"))
_HELD_OUT = (("x_test", "y_test"), ("x_val", "y_val"))


def from_arrays(path, validation_path, values, task):
    """Streams the examples in arrays.

    Args:
        path: an .npz file with `x` and `y`, or `x_train` and `y_train`.
        validation_path: another one, or `None`: then `x_test` and `y_test`
            are taken, or a share of the others is held out.
        values: the flags `validation_split`, `batch_size` and `seed`.
        task: the `Task`.

    Returns:
        A `Source`.

    Raises:
        ValueError: arrays are missing or do not fit the model.
    """
    train, validation = _read(path, "data", task), None
    x, y, classes = train(_TRAIN)
    if validation_path is not None:
        other = _read(validation_path, "validation_data", task)
        validation = other(_TRAIN)
    elif values.validation_split is None:
        validation = train(_HELD_OUT, optional=True)
    if validation is None:
        held = share_held_out(len(x), values)
        seed = values.seed
        order = np.random.default_rng(seed).permutation(len(x))
        chosen = np.sort(order[:held])
        validation = x[chosen], y[chosen], classes
        rest = np.sort(order[held:])
        x, y = x[rest], y[rest]
    if validation[2] != classes:
        raise ValueError(
            "The labels to train on and to measure on must be of one kind. "
            f"Received: {_kind(classes)} and {_kind(validation[2])}"
        )
    import tensorflow as tf

    batches = []
    for arrays, shuffled in (((x, y), True), (validation[:2], False)):
        dataset = tf.data.Dataset.from_tensor_slices(arrays)
        if shuffled:
            dataset = dataset.shuffle(len(x), seed=values.seed)
        batches.append(dataset.batch(values.batch_size))
    return Source(*batches, len(x), len(validation[0]), classes)


def _read(path, name, task):
    """A function that gives checked pairs of arrays of a file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:
        # A damaged archive raises errors of many types.
        raise ValueError(
            f"Argument `{name}` must be an .npz file of arrays of numbers. "
            f"Received: {name}={path} ({type(error).__name__}: {error})"
        ) from error

    def pair(keys, optional=False):
        for x, y in keys:
            if x in arrays and y in arrays:
                return _checked(arrays[x], arrays[y], x, y, path, task)
        if optional:
            return None
        wanted = " or ".join(f"{x} and {y}" for x, y in keys)
        raise ValueError(
            f"Argument `{name}` must be a file with the arrays {wanted}. "
            f"Received: {name}={path}, with {', '.join(arrays) or 'none'}"
        )

    return pair


def _checked(x, y, x_name, y_name, path, task):
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"Arrays `{x_name}` and `{y_name}` must have as many examples as "
            f"each other, at least 2. Received: shapes {x.shape} and {y.shape} "
            f"in {path}"
        )
    shape = task.input_shape
    # Images without an axis of channels are gray.
    if x.ndim == len(shape) and shape[-1:] == (1,):
        x = x[..., None]
    fits = x.ndim == len(shape) + 1 and all(
        want in (None, got) for want, got in zip(shape, x.shape[1:])
    )
    if not fits or x.dtype.kind not in "buif":
        raise ValueError(
            f"Array `{x_name}` must hold numbers and have shape "
            f"{('examples', *shape)}, as the model reads them. Received: "
            f"shape {x.shape}, dtype {x.dtype} in {path}"
        )
    for array, array_name in ((x, x_name), (y, y_name)):
        if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
            raise ValueError(
                f"Array `{array_name}` must be finite. Received: NaN or "
                f"infinity in {path}"
            )
    y, classes = labels_from(y, task, y_name)
    return x, y, classes


def _kind(classes):
    return "numbers of classes" if classes else "values"
