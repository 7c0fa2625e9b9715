"""Examples of inputs, on which the converter measures ranges of tensors."""

import itertools

import keras
import numpy as np

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
        ValueError: there are fewer than 32 examples, or their shape does not
            fit the inputs.
    """
    arrays = _by_name(data, inputs)
    if arrays is not None:
        _check(arrays, inputs)
        count = len(next(iter(arrays.values())))
        chosen = np.unique(
            np.linspace(0, count - 1, min(count, MAX_EXAMPLES)).astype(int)
        )
        examples = [_example(arrays, inputs, index) for index in chosen]
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


def _examples(batches, inputs):
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
            yield _example(arrays, inputs, index)


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
        shape = arrays[tensor.name].shape[1:]
        fits = len(shape) == len(tensor.shape) - 1 and all(
            size is None or size == got
            for size, got in zip(tensor.shape[1:], shape)
        )
        if not fits:
            raise ValueError(
                "Argument `representative_data` must be of shape "
                f"{tuple(tensor.shape)} for input '{tensor.name}'. "
                f"Received: shape {arrays[tensor.name].shape}"
            )


def _example(arrays, inputs, index):
    return {
        tensor.name: arrays[tensor.name][index : index + 1].astype(tensor.dtype)
        for tensor in inputs
    }
