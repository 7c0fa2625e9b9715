import keras
import numpy as np

from l0keras.graph.graph import unknown
from l0keras.graph.rules import BARRIER
from l0keras.graph.rules import rule_of


def find_rules(graph):
    """Gives every value its channel axis and every node its rule."""
    channels_first = any(
        getattr(node.layer, "data_format", None) == "channels_first"
        for node in graph.nodes
    )

    def free_axis(value):
        return 1 if channels_first and value.rank > 2 else value.rank - 1

    for value in keras.tree.flatten(graph.inputs):
        value.axis = free_axis(value)
    for node in graph.nodes:
        node.rule, reason = rule_of(node)
        if reason:
            node.reasons.append(f"kept as it is: {reason}")
        axis = node.rule.output_axis(node)
        for value in node.outputs:
            value.axis = free_axis(value) if axis is None else axis


def load_params(graph):
    """Copies to the host the weights that rules may read and change.

    Raises:
        ValueError: a weight is not finite.
    """
    for operation in {id(n): n.operation for n in graph.nodes}.values():
        if operation.params or operation.nodes[0].rule is BARRIER:
            continue
        operation.load_params()
        for name, array in operation.params.items():
            if not np.all(np.isfinite(array)):
                raise ValueError(
                    "Argument `model` must have finite weights. Received: "
                    f"NaN or infinity in '{name}' of layer "
                    f"'{operation.name}'"
                )


def propagate_constants(graph):
    """Forwards: which channels are the same number whatever the input."""
    for value in keras.tree.flatten(graph.inputs):
        value.constants = unknown(value.size)
    for node in graph.nodes:
        for value in node.outputs:
            value.constants = unknown(value.size)
        if node.rule is not BARRIER:
            node.output.constants = node.rule.constants(node)


def find_live(graph, min_units=1):
    """Backwards: which channels somebody needs.

    Args:
        graph: a `Graph` with its constants.
        min_units: how many channels each layer keeps at least, where it
            chooses them for itself.
    """
    for value in graph.values:
        value.live = np.full(value.size, value.is_output)
    for node in reversed(graph.nodes):
        if node.rule is BARRIER:
            for value in node.outputs:
                value.live[:] = True
            node.made = np.ones(0, bool)
        else:
            node.made = node.rule.makes(node, node.output.live)
            _explain_more(node)
            if node.rule.creates(node):
                _keep_some(node, min_units)
            node.output.live = node.made
        node.reads = node.rule.reads(node, node.made)
        for value, mask in zip(node.inputs, node.reads, strict=True):
            value.live = value.live | mask


def _explain_more(node):
    more = int(np.sum(node.made & ~node.output.live))
    if more:
        node.reasons.append(
            f"makes {more} units that nobody needs: they come together with "
            "others, by groups, depth multiplier or an activation that may "
            "mix units"
        )


def _keep_some(node, min_units):
    missing = min(min_units, len(node.made)) - int(node.made.sum())
    if missing <= 0:
        return
    spare = np.flatnonzero(~node.made)
    # A unit that is constant does not keep other units alive.
    varies = np.isnan(node.output.constants[spare])
    chosen = spare[np.argsort(varies, kind="stable")][:missing]
    made = node.made.copy()
    made[chosen] = True
    node.made = node.rule.makes(node, made)
    left = len(node.made) - len(spare)
    lost = f"all but {left}" if left else "all"
    node.reasons.append(
        f"would lose {lost} of its units; keeps {int(node.made.sum())}"
    )


def choose_kept(graph):
    """Forwards: which channels each value of the stripped model has.

    Where a layer needs fewer channels than its input has, because others
    need them or the input cannot shrink, it gets a selection in front of it
    if that makes its weights smaller.
    """
    for value in keras.tree.flatten(graph.inputs):
        value.kept = np.arange(value.size)
    for node in graph.nodes:
        if node.rule is BARRIER:
            for value in node.outputs:
                value.kept = np.arange(value.size)
            continue
        for position, value in enumerate(node.inputs):
            node.takes[position] = _selection(node, value, node.reads[position])
        node.output.kept = node.rule.keeps(node)
        _explain(node)


def _selection(node, value, mask):
    if not (node.rule.shrinks_with_input and value.selectable):
        return None
    wanted = value.kept[mask[value.kept]]
    if len(wanted) == 0:
        wanted = value.kept[:1]
    return None if len(wanted) == len(value.kept) else wanted


def _explain(node):
    """Notes constant channels that had to stay because of this node."""
    if not node.rule.creates(node):
        return
    constants = node.input.constants
    stay = node.reads[0] & ~np.isnan(constants) & (constants != 0)
    if np.any(stay):
        node.reasons.append(
            f"reads {int(stay.sum())} channels that carry a constant: its "
            "bias cannot stand in for them, because the constant ends at "
            "padded borders or a whole group is read"
        )
