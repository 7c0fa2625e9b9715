"""Weights as a file of few bits has them."""

import numpy as np


def rounded(array, bits):
    """Rounds a matrix or a kernel to integers with a scale for each channel.

    Args:
        array: an array of weights. Biases, integers and scalars stay.
        bits: the number of bits of an integer.

    Returns:
        An array of the same shape and dtype.
    """
    if array.ndim < 2 or array.dtype.kind != "f":
        return array
    # The last axis with channels: those of a depthwise kernel have one of
    # multipliers behind.
    wide = [axis for axis, size in enumerate(array.shape) if size > 1]
    channels = max(wide, default=0)
    others = tuple(axis for axis in range(array.ndim) if axis != channels)
    largest = np.max(np.abs(array), axis=others, keepdims=True, initial=0.0)
    scale = largest / (2 ** (bits - 1) - 1)
    scale[scale == 0] = 1.0
    return (np.round(array / scale) * scale).astype(array.dtype)
