"""What the nodes of a graph cost: weights and multiply-accumulates."""

import math

import keras
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell
from keras.src.ops import numpy as numpy_ops

from l0keras.graph.rules import BARRIER
from l0keras.graph.rules.table import rule_for
from l0keras.graph.trace import is_functional
from l0keras.graph.trace import trace

_layers = keras.layers
CONVOLUTIONS = (
    _layers.Conv1D,
    _layers.Conv2D,
    _layers.Conv3D,
    _layers.DepthwiseConv1D,
    _layers.DepthwiseConv2D,
)
_SEPARABLE = (_layers.SeparableConv1D, _layers.SeparableConv2D)
_TRANSPOSED = (
    _layers.Conv1DTranspose,
    _layers.Conv2DTranspose,
    _layers.Conv3DTranspose,
)
_CELLS = (_layers.SimpleRNNCell, _layers.LSTMCell, _layers.GRUCell)
_ATTENTION = (_layers.MultiHeadAttention, _layers.GroupQueryAttention)
_WITH_FORMULAS = (
    *(_layers.Dense, _layers.EinsumDense, *CONVOLUTIONS, *_SEPARABLE),
    *(*_TRANSPOSED, _layers.RNN, _layers.Bidirectional, *_ATTENTION),
    *(_layers.TimeDistributed, _layers.Embedding),
)


def macs(node):
    """The multiply-accumulates of one call of a layer, for one example.

    Raises:
        ValueError: a size that counts is not fixed, or the layer is one of
            the caller's own whose weights may be multiplied in any way.
    """
    layer = node.layer
    try:
        shapes = [value.shape for value in node.inputs]
        output = node.outputs[0].shape if node.outputs else ()
        if type(layer) in _PRODUCTS:
            return _PRODUCTS[type(layer)](layer, shapes, output)
        if not _is_known(layer):
            raise ValueError(
                "The multiply-accumulates of argument `model` are unknown. "
                f"Received: layer '{node.name}' of type "
                f"{type(layer).__name__}, which has weights and is none of "
                "Keras's. Count those of the layers that it is made of."
            )
        return _layer_macs(layer, shapes, output)
    except TypeError:
        raise ValueError(
            "Argument `model` must have fixed shapes, except for the batch. "
            f"Received: layer '{node.name}' with input shape "
            f"{node.input.shape} and output shape {node.output.shape}"
        ) from None


def _is_known(layer):
    """Whether it is known that a layer without a formula multiplies nothing."""
    place = type(layer).__module__.partition(".")[0]
    if place in ("keras", "l0keras") or rule_for(type(layer)):
        return True
    if isinstance(layer, _WITH_FORMULAS) or is_functional(layer):
        return True
    return all(len(weight.shape) < 2 for weight in layer.weights)


def _layer_macs(layer, inputs, output):
    """The count for one layer; a `TypeError` where a size is `None`."""
    if is_functional(layer):
        return sum(macs(node) for node in trace(layer, baked=False).nodes)
    if isinstance(layer, _layers.Dense):
        return math.prod(output[1:-1]) * _size(layer.kernel)
    if isinstance(layer, _layers.EinsumDense):
        return math.prod(output[1:]) * _contracted(layer)
    if isinstance(layer, CONVOLUTIONS):
        return _positions(layer, output) * _size(layer.kernel)
    if isinstance(layer, _SEPARABLE):
        weights = layer.depthwise_kernel, layer.pointwise_kernel
        return _positions(layer, output) * sum(map(_size, weights))
    if isinstance(layer, _TRANSPOSED):
        return _positions(layer, inputs[0]) * _size(layer.kernel)
    if isinstance(layer, _layers.RNN):
        batch, steps, *rest = inputs[0]
        return math.prod([steps]) * _step(layer.cell, (batch, *rest))
    if isinstance(layer, _layers.Bidirectional):
        both = layer.forward_layer, layer.backward_layer
        return sum(_layer_macs(one, inputs, output) for one in both)
    if isinstance(layer, _layers.TimeDistributed):
        steps = math.prod(inputs[0][1:2])
        inner = [(shape[0], *shape[2:]) for shape in inputs]
        return steps * _layer_macs(layer.layer, inner, (None, *output[2:]))
    if isinstance(layer, _ATTENTION):
        return _attention(layer, inputs)
    if (
        isinstance(layer, _layers.Embedding)
        and inputs[0][1:]
        and ((inputs[0][-1], output[-1]) == (layer.output_dim, layer.input_dim))
    ):
        # Called in reverse, as some outside of Keras can be.
        return math.prod(output[1:-1]) * _size(layer.embeddings)
    return 0


def _matmul(op, inputs, output):
    return math.prod(output[1:]) * inputs[0][-1]


def _dot(layer, inputs, output):
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return math.prod(output[1:]) * inputs[0][axis]


def _einsum(op, inputs, output):
    terms = op.subscripts.replace(" ", "").split("->")[0].split(",")
    sizes = {}
    for term, shape in zip(terms, inputs, strict=True):
        tail = term.rpartition("...")[2]
        for label, size in zip(reversed(tail), reversed(shape)):
            sizes[label] = size
    made = op.subscripts.replace(" ", "").partition("->")[2]
    contracted = [n for label, n in sizes.items() if label not in made]
    return math.prod(output[1:]) * math.prod(contracted)


def _scores(layer, inputs, output):
    """Scores of all pairs, and the sums of values that these weight."""
    query, value = inputs[0], inputs[1]
    pairs = math.prod(query[1:-1]) * value[-2]
    return pairs * (query[-1] + value[-1])


# Layers and ops without weights that multiply what they are given.
_PRODUCTS = {
    numpy_ops.Matmul: _matmul,
    numpy_ops.Einsum: _einsum,
    _layers.Dot: _dot,
    _layers.Attention: _scores,
    _layers.AdditiveAttention: _scores,
}


def _step(cell, shape):
    """The count for one time step of a recurrent cell, called on a shape."""
    if isinstance(cell, _layers.StackedRNNCells):
        return sum(_step(one, shape) for one in cell.cells)
    if not isinstance(cell, (*_CELLS, ConvLSTMCell)):
        return 0
    weights = _size(cell.kernel) + _size(cell.recurrent_kernel)
    if isinstance(cell, ConvLSTMCell):
        state, _ = cell.compute_output_shape(shape)
        return _positions(cell, state) * weights
    return weights


def _attention(layer, inputs):
    """Projections, scores and weighted sums of values of all heads."""
    query, value = inputs[0], inputs[1]
    queries, keys = math.prod(query[1:-1]), math.prod(value[1:-1])
    query_kernel, output_kernel, key_kernel, value_kernel = (
        getattr(layer, f"_{name}_dense").kernel
        for name in ("query", "output", "key", "value")
    )
    axes = getattr(layer, "_attention_axes", (1,))
    seen = math.prod(value[axis] for axis in axes)
    # Entries of a score and of a sum of values, for all heads.
    width = _size(query_kernel) // query[-1]
    width += math.prod(output_kernel.shape[:2])
    return (
        queries * (_size(query_kernel) + _size(output_kernel))
        + keys * (_size(key_kernel) + _size(value_kernel))
        + queries * seen * width
    )


def _size(weight):
    return math.prod(weight.shape)


def _positions(layer, shape):
    spatial = shape[1:-1]
    if layer.data_format == "channels_first":
        spatial = shape[2:]
    return math.prod(spatial)


def _contracted(layer):
    """How many products make one number of an EinsumDense's output."""
    inputs, output = layer.equation.split("->")
    labels = inputs.split(",")[1]
    return math.prod(
        size
        for label, size in zip(labels, layer.kernel.shape, strict=True)
        if label not in output
    )


def weight_arrays(node):
    """The weights of a node, as `Rule.weights` says; of a shared layer once.

    Returns:
        A list of `(count, axes)`, empty for a layer without a rule.
    """
    if node.rule is BARRIER or node.operation.nodes[0] is not node:
        return []
    return node.rule.weights(node)


def mac_arrays(node):
    """The same, counted in multiply-accumulates instead of weights.

    Those of the layer are spread over its arrays with the most axes, its
    kernels, in proportion to their sizes. All others cost nothing.

    Returns:
        A list of `(count, axes)`, empty for a layer without a rule.
    """
    if type(node.layer) in _PRODUCTS:
        return _product_array(node)
    arrays = [] if node.rule is BARRIER else node.rule.weights(node)
    total = macs(node) if arrays else 0
    if not total:
        return []
    depth = max(len(axes) for _, axes in arrays)
    kernels = [array for array in arrays if len(array[1]) == depth]
    size = sum(
        count * math.prod(len(channels) for _, channels in axes)
        for count, axes in kernels
    )
    # Each weight of a kernel is used equally often, as a rule.
    times, rest = divmod(total, size)
    times = times if not rest else total / size
    return [(count * times, axes) for count, axes in kernels]


def _product_array(node):
    total = macs(node)
    axes = [] if node.rule is BARRIER else node.rule.multiplied(node)
    size = math.prod(len(channels) for _, channels in axes)
    if not size:
        return []
    times, rest = divmod(total, size)
    return [(times if not rest else total / size, axes)]


# What a model can be charged for, and how a node's share of it is counted.
ARRAYS = {"params": weight_arrays, "macs": mac_arrays}


def check_cost(cost):
    if cost not in ARRAYS:
        raise ValueError(
            f"Argument `cost` must be one of {tuple(ARRAYS)}. "
            f"Received: cost={cost!r}"
        )
