"""The bytes of a LiteRT file by the weights in it."""

import math

import keras
import numpy as np

from l0keras.graph.costs import weight_arrays
from l0keras.graph.rules.elementwise import BatchNormalization
from l0keras.targets.latency.pieces import pieces

# Of an entry of a kernel, the scale and zero point of a channel that it
# makes, and a bias with those of its own.
_BYTES = {
    None: (4, 0, 4),
    "float16": (2, 0, 2),
    "dynamic": (1, 12, 4),
    "int8": (1, 12, 16),
    "int16x8": (1, 20, 20),
}
_LINEAR = (None, keras.activations.linear)
# What a layer is described with, whatever its size.
LEAST_PER_LAYER = 300
# Smaller arrays stay floats where ranges are found on the fly.
_LEAST_DYNAMIC = 1024


def byte_arrays(graph, quantization=None):
    """Finds what each layer adds to the size of a LiteRT file.

    Kernels and biases as they are written in a quantization; normalization
    behind a layer with a kernel is folded into it and adds nothing.

    Args:
        graph: a channel graph with the shapes of its weights.
        quantization: as in `export_tflite`.

    Returns:
        A function of a node, of this graph or of that of a model made from
        this one, that returns a list of `(count, axes)` of `Rule.weights`, in
        bytes.
    """
    folded = dict(map(_folded, pieces(graph)))

    def arrays(node):
        own = weight_arrays(node)
        if not own or node.name in folded.values():
            return []
        entries = _kernels(node)
        if not entries:
            # Vectors that are multiplied or added, in floats as a rule, of
            # which batch normalization needs two for its four.
            each = 2 if isinstance(node.rule, BatchNormalization) else 4
            return [(each * count, axes) for count, axes in own]
        small = quantization == "dynamic" and entries < _LEAST_DYNAMIC
        each, scale, bias = _BYTES[None if small else quantization]
        depth = max(len(axes) for _, axes in own)
        kernels = [array for array in own if len(array[1]) == depth]
        counted = sum(
            count * math.prod(len(indices) for _, indices in axes)
            for count, axes in kernels
        )
        # Some rules count a bias together with a kernel.
        each *= entries / counted
        units = node.output.size
        vectors = sum(a.size for a in node.params.values() if a.ndim < 2)
        vectors += units if folded.get(node.name) else 0
        columns = sum(
            max(1, a.shape[-1] // units) * units
            for a in node.params.values()
            if a.ndim > 1
        )
        channel = (scale * columns + bias * vectors) / units
        made = [(-1, np.arange(units))]
        return [*((each * c, axes) for c, axes in kernels), (channel, made)]

    return arrays


def _folded(piece):
    """The names of a layer and of the normalization in its kernel, if any."""
    head, *others = piece.nodes
    linear = getattr(head.layer, "activation", None) in _LINEAR
    if linear and others and _kernels(head):
        if isinstance(others[0].rule, BatchNormalization):
            return head.name, others[0].name
    return head.name, None


def _kernels(node):
    """How many entries the kernels of a node have, those with two axes."""
    return sum(a.size for a in node.params.values() if a.ndim > 1)
