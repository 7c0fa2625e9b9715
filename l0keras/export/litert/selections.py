"""Selections of inputs without `GATHER`, which is not there in 16 bits."""

import numpy as np
from keras import layers
from keras import ops
from keras.src.models.functional import Functional
from keras.src.ops.numpy import Take

# So many tensors a concatenation takes in TensorFlow Lite for
# Microcontrollers.
_MOST = 10


def selections(model):
    """The attributes for selections by fixed indices, as `strip` puts in.

    Where layers read the selection alone, they get all channels, with weights
    of 0 for those that were left out. Elsewhere it is made of slices.

    Args:
        model: a functional model of Keras 3.

    Returns:
        A list of triples of an operation, the name of an attribute and its
        value.
    """
    changes = []
    for graph in _graphs(model):
        nodes = [
            node for some in graph._nodes_by_depth.values() for node in some
        ]
        for node in nodes:
            if type(node.operation) is Take:
                changes += _changes(node, nodes, graph)
    return changes


def _graphs(model):
    found = [model, *model._flatten_layers(include_self=False)]
    return [one for one in found if isinstance(one, Functional)]


def _changes(node, nodes, graph):
    take = node.operation
    arguments = node.arguments.args
    if take.axis is None or len(arguments) != 2:
        return []
    x, indices = arguments
    if hasattr(indices, "shape") or np.ndim(indices) != 1:
        return []
    axis, size = take.axis % len(x.shape), x.shape[take.axis]
    indices = np.asarray(indices) % size
    (output,) = node.output_tensors
    readers = [
        other.operation
        for other in nodes
        if any(tensor is output for tensor in other.input_tensors)
    ]
    ends = any(tensor is output for tensor in graph.outputs)
    once = len(take._inbound_nodes) == 1
    if (
        once
        and axis == len(x.shape) - 1
        and not ends
        and all(map(_can_read_all, readers))
    ):
        changes = [(take, "call", lambda x, indices: x)]
        for layer in readers:
            kernel = _widened(layer.kernel, indices, size)
            changes += [
                (layer, "_kernel", kernel),
                (layer, "_input_spec", None),
            ]
        return changes
    return [(take, "call", lambda x, _: _slices(x, indices, axis))]


def _can_read_all(layer):
    kinds = layers.Dense, layers.Conv1D, layers.Conv2D
    return (
        type(layer) in kinds
        and len(layer._inbound_nodes) == 1
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "data_format", "channels_last") == "channels_last"
    )


def _widened(kernel, indices, size):
    """A kernel for all channels, with zeros for those not read."""
    kernel = ops.convert_to_numpy(kernel)
    shape = (*kernel.shape[:-2], size, kernel.shape[-1])
    wide = np.zeros(shape, kernel.dtype)
    for place, index in enumerate(indices):
        wide[..., index, :] += kernel[..., place, :]
    return wide


def _slices(x, indices, axis):
    """The entries at indices, put together of slices."""
    x = ops.convert_to_tensor(x)
    starts = np.flatnonzero(np.diff(indices, prepend=indices[0] - 2) != 1)
    before = (slice(None),) * axis
    parts = [
        x[(*before, slice(int(run[0]), int(run[-1]) + 1))]
        for run in np.split(indices, starts[1:])
    ]
    while len(parts) > 1:
        groups = [parts[i : i + _MOST] for i in range(0, len(parts), _MOST)]
        parts = [
            ops.concatenate(group, axis) if len(group) > 1 else group[0]
            for group in groups
        ]
    return parts[0]
