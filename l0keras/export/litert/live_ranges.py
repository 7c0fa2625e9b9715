"""Ranges of tensors that were zeros for all examples, or nearly so.

What comes out of a dead ReLU would have a scale near zero. Sums of products
with it could not hold a bias then, and XNNPACK refuses them.
"""

import numpy as np

from l0keras.export.litert.float_model import constant
from l0keras.export.litert.float_model import kind
from l0keras.export.litert.float_model import kinds
from l0keras.export.litert.float_model import operations
from l0keras.export.litert.float_model import range_of
from l0keras.export.litert.float_model import set_range

# The largest integer of a weight.
_STEPS = 127


def widen_dead_ranges(model):
    """Widens the ranges that nothing can be computed with.

    Args:
        model: a float model with ranges, changed in its place.
    """
    sums = kinds(
        "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"
    )
    for graph in model.subgraphs:
        for op, read, made in operations(graph):
            largest = max(map(_largest, read), default=0.0)
            weight = 0.0
            if kind(op, model) in sums:
                weights = constant(graph.tensors[op.inputs[1]], model)
                if weights is not None:
                    weight = float(np.max(np.abs(weights), initial=0.0))
            for tensor in made:
                _widen(tensor, largest, weight)


def _widen(tensor, largest, weight):
    """Widens the range of an output.

    Args:
        tensor: the output.
        largest: the largest number that the operation reads, as measured.
        weight: the largest one of its weights, 0 without any.
    """
    if range_of(tensor) is None:
        return
    low, high = range_of(tensor)
    now = max(abs(low), abs(high))
    # Then an integer stands for one of the sums of products; a finer scale
    # would hold no more.
    wanted = max(now, largest * weight / _STEPS)
    if not now:
        # What it will be is unknown.
        low, high, now = -1.0, 1.0, 1.0
        wanted = max(wanted, largest or weight)
    elif wanted == now:
        return
    set_range(tensor, low / now * wanted, high / now * wanted)


def _largest(tensor):
    """The largest absolute number that was measured, 0 without any."""
    return max(map(abs, range_of(tensor) or (0.0,)))
