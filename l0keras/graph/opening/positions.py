import contextlib

import keras
from keras import ops
from keras.src import ops as source_ops
from keras.src.ops import numpy as numpy_ops

_PLACES = (ops, source_ops, numpy_ops)


@contextlib.contextmanager
def symbolic_positions(tensors):
    """A context in which `ops.arange` counts along the axes of tensors.

    Outside of it an `arange` of numbers is an array, which is a constant in a
    graph: the same one for inputs of any size, and what is looked up with it
    does not train. Here it is counted from a tensor that has so many entries
    along an axis, if there is one. What does not know `keras.ops.arange` by
    that name gets arrays as ever. And `tensor[None]` adds an axis to symbolic
    tensors, too, as it does to arrays.

    Args:
        tensors: a list of `KerasTensor`, inputs of what is traced.
    """
    plain = numpy_ops.arange

    def arange(start, stop=None, step=None, dtype=None):
        if stop is None:
            start, stop = 0, start
        if start == 0 and step in (None, 1) and isinstance(stop, int):
            for tensor in tensors:
                axes = range(1, len(tensor.shape))
                axis = next((i for i in axes if tensor.shape[i] == stop), None)
                if axis is not None:
                    return _count(tensor, axis, dtype)
        return plain(start, stop, step, dtype)

    get_item = keras.KerasTensor.__getitem__
    before = [vars(place)["arange"] for place in _PLACES]
    try:
        for place in _PLACES:
            place.arange = arange
        keras.KerasTensor.__getitem__ = lambda tensor, key: get_item(
            tensor, (None,) if key is None else key
        )
        yield
    finally:
        keras.KerasTensor.__getitem__ = get_item
        for place, function in zip(_PLACES, before, strict=True):
            place.arange = function


def _count(tensor, axis, dtype):
    """0, 1, 2, ... along an axis of a tensor, of shape `(size,)`."""
    key = [0] * len(tensor.shape)
    key[axis] = slice(None)
    ones = ops.ones_like(tensor[tuple(key)], dtype="int32")
    positions = ops.subtract(ops.cumsum(ones), 1)
    dtype = keras.backend.standardize_dtype(dtype or "int32")
    return positions if dtype == "int32" else ops.cast(positions, dtype)
