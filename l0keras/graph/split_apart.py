from keras.src.ops import core
from keras.src.ops import numpy as numpy_ops

from l0keras.graph.graph import Node
from l0keras.graph.graph import Operation


def split_apart(graph):
    """Replaces ops that split one tensor into several by one op for each.

    So that each part is a value of its own, which may be needed or not.

    Args:
        graph: a `Graph`; it is changed.
    """
    names = {node.name for node in graph.nodes}
    for node in list(graph.nodes):
        keys = _keys(node)
        if keys is None:
            continue
        source, parts = node.input, []
        source.readers.remove((node, 0))
        node.operation.nodes.remove(node)
        for position, (key, value) in enumerate(zip(keys, node.outputs)):
            name = f"{node.name}_{position}"
            while name in names:
                name += "_"
            names.add(name)
            operation = Operation(numpy_ops.GetItem(name=name), name)
            parts.append(Node(operation, (source, key), {}, [source], [value]))
        at = graph.nodes.index(node)
        graph.nodes[at : at + 1] = parts


def _keys(node):
    """What each output takes of the input, `None` for other ops."""
    kind = type(node.layer)
    if kind not in (numpy_ops.ArraySplit, numpy_ops.Split, core.Unstack):
        return None
    if len(node.inputs) != 1:
        return None
    axis = node.layer.axis % node.input.rank
    if axis == 0 or node.input.shape[axis] is None:
        return None
    before = (slice(None),) * axis
    if kind is core.Unstack:
        return [(*before, index) for index in range(len(node.outputs))]
    keys, start = [], 0
    for value in node.outputs:
        stop = start + value.shape[axis]
        keys.append((*before, slice(start, stop)))
        start = stop
    return keys
