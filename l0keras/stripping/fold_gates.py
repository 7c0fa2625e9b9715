import numpy as np

from l0keras.graph.rules import BARRIER

_NEITHER = (
    "its gates stay as a scaling: neither the layer before nor all those after "
    "it can take them in"
)


def fold_gates(graph):
    """Multiplies the values of gates of their own into weights, if exact.

    A gate moves back into the layer that makes its input, else forwards into
    all layers that read its output. Between there may be layers that are
    positively homogeneous. A layer that is called several times takes gates
    in if those of all its calls have the same values. Where none of this
    works the scaling stays.

    Args:
        graph: a `Graph` with rules and weights; it is changed.
    """
    for node in list(graph.nodes):
        # Some went together with others.
        if node not in graph.nodes or not _is_gate(node):
            continue
        scale = node.rule.channel_scale(node)
        if scale is None:
            if not np.any(node.layer.offset):
                _note(node, "its gates stay: not one for each channel")
            continue
        if np.any(scale < 0):
            # Such as a difference with zero: a ReLU lets no sign through.
            continue
        reasons = []
        for follow, nearest in _DIRECTIONS:
            try:
                gates, steps = _together(node, follow, nearest)
            except _Stays as error:
                reasons.append(str(error))
            else:
                break
        else:
            if np.all(scale == 1):
                graph.remove(node)
            # Of gates that are open or closed, only open ones may be left,
            # which do nothing.
            elif not np.all(np.isin(scale, (0, 1))):
                _note(
                    node,
                    "; ".join(
                        dict.fromkeys([_NEITHER, *filter(None, reasons)])
                    ),
                )
            continue
        for step, target, by in steps:
            step(target, by)
        for gate in gates:
            graph.remove(gate)


class _Stays(Exception):
    """A gate that cannot be folded in one direction."""


def _is_gate(node):
    return node.operation.gate and node.rule is not BARRIER


def _together(node, follow, nearest):
    """The gates that can be folded only together with one of them.

    Args:
        node: a gate.
        follow: a function of a gate that returns what to multiply, a list.
        nearest: a function of a call of a layer that returns the gate from
            which `follow` would lead to it, or `None`.

    Returns:
        The gates, and what to multiply: each layer's weights once.

    Raises:
        _Stays: they cannot be folded.
    """
    gates, factors = [node], {}
    for gate in gates:
        steps = follow(gate)
        if steps is None:
            raise _Stays
        for step, target, by in steps:
            calls = factors.setdefault((target.operation, step), {})
            calls[target] = calls.get(target, 1.0) * by
            if target.operation.shared:
                others = [nearest(one) for one in target.operation.nodes]
                gates += [
                    one for one in dict.fromkeys(others) if one not in gates
                ]
                if None in others:
                    raise _Stays(_shared_reason(target))
    for (operation, _), calls in factors.items():
        first, *rest = calls.values()
        missed = operation.shared and len(calls) < len(operation.nodes)
        if missed or not all(np.array_equal(first, one) for one in rest):
            raise _Stays(_shared_reason(operation.nodes[0]))
    return gates, [
        (step, *next(iter(calls.items())))
        for (_, step), calls in factors.items()
    ]


def _shared_reason(node):
    return (
        f"layer '{node.name}' is called {len(node.operation.nodes)} times, "
        "and not with the same gates each time"
    )


def _note(node, reason):
    if reason not in node.reasons:
        node.reasons.append(reason)


def _into_maker(gate):
    return _backwards(gate.input, gate.rule.channel_scale(gate))


def _into_readers(gate):
    return _forwards(gate.output, gate.rule.channel_scale(gate))


def _gate_behind(node):
    """The gate that alone reads what a node makes, or `None`."""
    if len(node.output.readers) != 1 or node.output.is_output:
        return None
    [(reader, _)] = node.output.readers
    if _scales(reader):
        return reader
    return _gate_behind(reader) if _passes(reader) else None


def _gate_before(node):
    """The gate whose output is a node's first input, or `None`."""
    maker = node.input.producer
    if maker is None:
        return None
    if _scales(maker):
        return maker
    return _gate_before(maker) if _passes(maker) else None


def _scales(node):
    if not _is_gate(node):
        return False
    scale = node.rule.channel_scale(node)
    return scale is not None and not np.any(scale < 0)


def _passes(node):
    """Whether a scaling can move from one side of a node to the other."""
    if node.rule is BARRIER or len(node.inputs) != 1:
        return False
    return node.rule.is_homogeneous(node)


def _backwards(value, scale):
    """What to multiply so that a value is scaled: a list, or `None`."""
    node = value.producer
    if node is None or node.rule is BARRIER:
        return None
    if len(value.readers) != 1 or value.is_output:
        return None
    if node.rule.takes_output_scale(node):
        return [(node.rule.scale_output, node, scale)]
    if not _passes(node):
        return None
    inner = node.rule.scale_backwards(node, scale)
    return None if inner is None else _backwards(node.input, inner)


def _forwards(value, scale):
    """What to multiply so that all readers see a value scaled."""
    if value.is_output:
        return None
    steps = []
    for node, position in value.readers:
        if node.rule is BARRIER or position:
            return None
        if node.rule.takes_input_scale(node):
            steps.append((node.rule.scale_input, node, scale))
        elif _passes(node):
            outer = node.rule.scale_forwards(node, scale)
            further = None if outer is None else _forwards(node.output, outer)
            if further is None:
                return None
            steps.extend(further)
        else:
            return None
    return steps


_DIRECTIONS = ((_into_maker, _gate_behind), (_into_readers, _gate_before))
