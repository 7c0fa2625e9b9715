import keras
import numpy as np

from l0keras.graph.graph import Operation
from l0keras.graph.rules import BARRIER
from l0keras.graph.rules import rule_of


def simplify(graph, idle=False):
    """Replaces merges that have become trivial by a scaling, or by nothing.

    A sum with a branch that is constant is an offset, a product with gates
    that several tensors share is a scaling. Whatever made the constants is
    then needed by nobody.

    Args:
        graph: a `Graph` with its constants; it is changed.
        idle: whether only merges are replaced that become nothing.

    Returns:
        Whether anything was replaced.
    """
    changed = False
    for node in list(graph.nodes):
        if node.rule is BARRIER or not node.alive:
            continue
        form = node.rule.affine(node)
        if form is None:
            continue
        if "float" not in node.output.tensor.dtype:
            continue
        position, scale, offset = form
        if idle and (np.any(scale != 1) or np.any(offset)):
            continue
        changed = True
        operation = _rescaling(node, _name(graph, node), scale, offset)
        new = graph.replace(node, operation, position)
        new.rule, _ = rule_of(new)
        if np.all(scale == 1) and not np.any(offset):
            graph.remove(new)
    graph.drop_unread()
    return changed


def _name(graph, node):
    """The node's own name, unless other calls of its operation have it."""
    name = node.name
    if len(node.operation.nodes) > 1:
        names = {other.name for other in graph.nodes}
        while name in names:
            name += "_"
    return name


def _rescaling(node, name, scale, offset):
    shape = [1] * node.output.rank
    shape[node.output.axis] = -1
    if not np.any(offset):
        offset = np.zeros(1)
    # Arrays, because Keras wraps lists number by number; if the layer stays,
    # its rule turns them into lists.
    layer = keras.layers.Rescaling(
        scale.reshape(shape),
        float(offset[0])
        if np.all(offset == offset[0])
        else offset.reshape(shape),
        name=name,
        dtype=node.output.tensor.dtype,
    )
    return Operation(layer, name, gate=True, baked=True)
