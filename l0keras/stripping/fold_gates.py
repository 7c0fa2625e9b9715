import numpy as np

from l0keras.graph.rules import BARRIER


def fold_gates(graph):
    """Multiplies the values of gates of their own into weights, if exact.

    A gate moves back into the layer that makes its input, else forwards into
    all layers that read its output. Between there may be layers that are
    positively homogeneous. Where neither works the scaling stays.

    Args:
        graph: a `Graph` with rules and weights; it is changed.
    """
    for node in list(graph.nodes):
        if not node.operation.gate or node.rule is BARRIER:
            continue
        scale = node.rule.channel_scale(node)
        if scale is None:
            if not np.any(node.layer.offset):
                _note(node, "its gates stay: not one for each channel")
            continue
        if np.any(scale < 0):
            # Such as a difference with zero: a ReLU lets no sign through.
            continue
        steps = _backwards(node.input, scale)
        if steps is None:
            steps = _forwards(node.output, scale)
        if steps is None and np.all(scale == 1):
            steps = []
        if steps is None:
            # Of gates that are open or closed, only open ones may be left,
            # which do nothing.
            if not np.all(np.isin(scale, (0, 1))):
                _note(
                    node,
                    "its gates stay as a scaling: neither the layer before nor "
                    "all those after it can take them in",
                )
            continue
        for step, target, by in steps:
            step(target, by)
        graph.remove(node)


def _note(node, reason):
    if reason not in node.reasons:
        node.reasons.append(reason)


def _backwards(value, scale):
    """What to multiply so that a value is scaled: a list, or `None`."""
    node = value.producer
    if node is None or node.rule is BARRIER or node.operation.shared:
        return None
    if len(value.readers) != 1 or value.is_output:
        return None
    if node.rule.takes_output_scale(node):
        return [(node.rule.scale_output, node, scale)]
    if not (len(node.inputs) == 1 and node.rule.is_homogeneous(node)):
        return None
    inner = node.rule.scale_backwards(node, scale)
    return None if inner is None else _backwards(node.input, inner)


def _forwards(value, scale):
    """What to multiply so that all readers see a value scaled."""
    if value.is_output:
        return None
    steps = []
    for node, position in value.readers:
        if node.rule is BARRIER or node.operation.shared or position:
            return None
        if node.rule.takes_input_scale(node):
            steps.append((node.rule.scale_input, node, scale))
        elif len(node.inputs) == 1 and node.rule.is_homogeneous(node):
            outer = node.rule.scale_forwards(node, scale)
            further = None if outer is None else _forwards(node.output, outer)
            if further is None:
                return None
            steps.extend(further)
        else:
            return None
    return steps
