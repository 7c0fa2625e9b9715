"""Examples of inputs, on which the converter measures ranges of tensors."""

import itertools

import keras
import numpy as np

from l0keras.graph.trace import as_functional

# TensorFlow advises 100 to 500.
MIN_EXAMPLES = 32
MAX_EXAMPLES = 500


def representative_examples(data, inputs):
    """Reads single examples from arrays, data sets or iterables.

    Args:
        data: an array with a batch axis, or for several inputs a dictionary
            of arrays by their names or a list in their order; or a
            `tf.data.Dataset`, an iterable, or a function that returns one, of
            batches of inputs or of pairs of inputs and targets.
        inputs: the `Input`s of the model, a list.

    Returns:
        A list of dictionaries from the names of inputs to arrays `(1, ...)`
        of the dtypes of the inputs. It has all examples or 500 of them: of
        arrays evenly spread ones, of batches the first.

    Raises:
        ValueError: there are fewer than 32 examples, their shape does not
            fit the inputs, or a number is not finite or not in the range of
            its input. The text has the index of the example.
    """
    arrays = _by_name(data, inputs)
    if arrays is not None:
        _check(arrays, inputs)
        count = len(next(iter(arrays.values())))
        chosen = np.unique(
            np.linspace(0, count - 1, min(count, MAX_EXAMPLES)).astype(int)
        )
        examples = [_example(arrays, inputs, i, i) for i in chosen]
    else:
        batches = data() if callable(data) else data
        try:
            batches = iter(batches)
        except TypeError:
            raise ValueError(
                "Argument `representative_data` must be arrays, a dataset or "
                f"an iterable of batches. Received: {type(data).__name__}"
            ) from None
        taken = itertools.islice(_examples(batches, inputs), MAX_EXAMPLES)
        examples = list(taken)
    if len(examples) < MIN_EXAMPLES:
        raise ValueError(
            "Argument `representative_data` must have at least "
            f"{MIN_EXAMPLES} examples: the ranges of tensors are measured on "
            f"them. Received: {len(examples)}"
        )
    return examples


def sample_shapes(model, data=None) -> dict[str, tuple[int, ...]]:
    """The shape of one example of each input, as `measure_latency` takes it.

    Args:
        model: a built functional or Sequential `keras.Model`.
        data: examples of inputs, as `export_tflite` takes them. Needed where
            a size is free; the first example says which it is then.

    Returns:
        A dictionary of tuples by the names of the inputs.

    Raises:
        ValueError: a size is free and there are no data, or they do not fit.

    Example:

    >>> shapes = l0keras.export.sample_shapes(model, images)
    """
    inputs = as_functional(model).inputs
    shapes = {one.name: tuple(one.shape[1:]) for one in inputs}
    if not any(None in shape for shape in shapes.values()):
        return shapes
    if data is None:
        raise ValueError(
            "Argument `representative_data` must be given for latencies of a "
            "model with free sizes: the time depends on them. Received: None, "
            f"and inputs {shapes}"
        )
    arrays = _by_name(data, inputs)
    if arrays is None:
        batches = data() if callable(data) else data
        batch = next(iter(batches))
        arrays = _by_name(batch, inputs)
        if arrays is None:
            arrays = _by_name(batch[0], inputs)
    _check(arrays, inputs)
    return {name: array.shape[1:] for name, array in arrays.items()}


def named_shapes(sample_shape, inputs):
    """The shapes of one example by the names of the inputs.

    Args:
        sample_shape: a tuple without the batch axis, or a dictionary of such
            tuples by the names of inputs, or `None`.
        inputs: the `Input`s of the model, a list.

    Returns:
        A dictionary of tuples, or `None` for `None`.

    Raises:
        ValueError: a shape does not fit its input, or is missing.
    """
    if sample_shape is None:
        return None
    shapes = sample_shape
    if not isinstance(shapes, dict):
        shapes = {inputs[0].name: sample_shape}
    try:
        shapes = {name: tuple(map(int, s)) for name, s in shapes.items()}
    except (TypeError, ValueError):
        shapes = {}
    wanted = {one.name: one.shape[1:] for one in inputs}
    fits = set(shapes) == set(wanted) and all(
        _fits(shapes[name], shape) and min(shapes[name], default=1) >= 1
        for name, shape in wanted.items()
    )
    if not fits:
        raise ValueError(
            "Argument `sample_shape` must be the shape of one example, a "
            "tuple, or for several inputs a dictionary of tuples by their "
            f"names, and fit {wanted}. Received: sample_shape={sample_shape!r}"
        )
    return shapes


def _examples(batches, inputs):
    seen = 0
    for batch in batches:
        arrays = _by_name(batch, inputs)
        if arrays is None and isinstance(batch, (tuple, list)):
            # A pair of inputs and targets, as for `fit`.
            arrays = _by_name(batch[0], inputs) if batch else None
        if arrays is None:
            raise ValueError(
                "Argument `representative_data` must give batches for the "
                f"inputs {_names(inputs)}, or pairs of these and targets. "
                f"Received: {type(batch).__name__}"
            )
        _check(arrays, inputs)
        for index in range(len(next(iter(arrays.values())))):
            yield _example(arrays, inputs, index, seen)
            seen += 1


def _by_name(data, inputs):
    """The arrays in `data` by name, or `None` if it has no arrays."""
    names = _names(inputs)
    if isinstance(data, dict):
        if set(data) != set(names):
            raise ValueError(
                "Argument `representative_data` must have the keys "
                f"{names}. Received: {sorted(map(str, data))}"
            )
        return {name: _array(data[name]) for name in names}
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        if len(inputs) > 1:
            raise ValueError(
                "Argument `representative_data` must have an array for each "
                f"of the inputs {names}. Received: one array"
            )
        return {names[0]: _array(data)}
    if isinstance(data, (tuple, list)) and len(data) == len(inputs):
        fits = all(
            len(getattr(array, "shape", ())) == len(tensor.shape)
            for array, tensor in zip(data, inputs)
        )
        if fits:
            return dict(zip(names, map(_array, data), strict=True))
    return None


def _names(inputs):
    return [tensor.name for tensor in inputs]


def _array(data):
    return keras.ops.convert_to_numpy(data)


def _check(arrays, inputs):
    if len({len(array) for array in arrays.values()}) != 1:
        raise ValueError(
            "Argument `representative_data` must have the same number of "
            "examples for each input. Received: "
            f"{ {name: len(array) for name, array in arrays.items()} }"
        )
    for tensor in inputs:
        if not _fits(arrays[tensor.name].shape[1:], tensor.shape[1:]):
            raise ValueError(
                "Argument `representative_data` must be of shape "
                f"{tuple(tensor.shape)} for input '{tensor.name}'. "
                f"Received: shape {arrays[tensor.name].shape}"
            )


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(
        size is None or size == got for size, got in zip(wanted, shape)
    )


def _example(arrays, inputs, index, number):
    """An example of arrays, the one with this number in the data."""
    return {
        tensor.name: _converted(
            arrays[tensor.name][index : index + 1], tensor, number
        )
        for tensor in inputs
    }


def _converted(array, tensor, number):
    """An example in the dtype of its input, if it has all of its numbers."""
    if array.dtype.kind not in "biuf" and "float" not in str(array.dtype):
        raise ValueError(
            "Argument `representative_data` must have real numbers. "
            f"Received: dtype {array.dtype} for input '{tensor.name}'"
        )
    with np.errstate(all="ignore"):
        new = array.astype(tensor.dtype)
        wrong = ~np.isfinite(array.astype("float64"))
    wanted = "finite numbers"
    if np.dtype(tensor.dtype).kind in "iu":
        wanted = f"integers of dtype {tensor.dtype}"
        wrong |= new != array
        if tensor.limit is not None:
            wanted = f"integers from 0 to {tensor.limit - 1}"
            wrong |= (new < 0) | (new >= tensor.limit)
    else:
        # Numbers of float64 may be too large for float32.
        wrong |= ~np.isfinite(new.astype("float64"))
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise ValueError(
            f"Argument `representative_data` must have {wanted} for input "
            f"'{tensor.name}'. Received: {array[place]} at index "
            f"{(int(number), *place[1:])}"
        )
    return new
