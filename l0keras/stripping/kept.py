import numpy as np

from l0keras.graph.rules import BARRIER


def choose_kept(graph):
    """Forwards: which channels each value of the stripped model has.

    Where a layer needs fewer channels than its input has, because others
    need them or the input cannot shrink, it gets a selection in front of it
    if that makes its weights smaller, or if its inputs have to be alike.
    """
    for value in graph.values:
        value.kept = np.arange(value.size)
        value.spare = np.zeros(value.size, bool)
    for node in graph.nodes:
        if not node.alive:
            for value in node.outputs:
                value.kept = np.arange(0)
        if node.rule is BARRIER or not node.alive:
            continue
        if node.rule.aligns:
            _align(node)
        else:
            for position in range(len(node.inputs)):
                node.takes[position] = _selection(node, position)
        kept, spare = node.rule.keeps(node), _spare(node)
        for value, part in zip(node.outputs, node.rule.parts(node)):
            value.kept = np.flatnonzero(np.isin(part, kept))
            value.spare = spare[part]
        _explain(node)


def _spare(node):
    """The channels that are only there to give a layer some width."""
    spare = node.spare.copy()
    for position, source in enumerate(node.rule.sources(node)):
        if node.reads_from(position):
            known = (source >= 0) & ~node.made
            spare[known] |= node.inputs[position].spare[source[known]]
    return spare


def _align(node):
    """Gives all inputs of a merge the same channels."""
    size = node.output.size
    full = [
        position
        for position in node.rule.channel_inputs(node)
        if node.inputs[position].size == size
    ]
    kept = [node.inputs[position].kept for position in full]
    if all(np.array_equal(kept[0], other) for other in kept):
        return
    # Not what the inputs have in common: it may be more than anybody needs.
    wanted = np.flatnonzero(node.made)
    for position, own in zip(full, kept):
        if not np.array_equal(wanted, own):
            node.takes[position] = wanted


def _selection(node, position):
    value, mask = node.inputs[position], node.reads[position]
    if not node.reads_from(position):
        return None
    if not (node.operation.shared or node.rule.shrinks_with_input):
        return None
    if not value.selectable:
        return None
    wanted = value.kept[mask[value.kept]]
    rest = value.kept[~mask[value.kept]]
    if len(wanted) and np.all(value.spare[rest]) and _takes_spare(node):
        return None
    if len(wanted) == 0:
        # Rather one that others need than one that nobody does.
        needed = value.kept[value.live[value.kept]]
        wanted = np.concatenate([needed, value.kept])[:1]
    return None if len(wanted) == len(value.kept) else wanted


def _takes_spare(node):
    return not (node.operation.shared or node.rule.takes_whole_sets(node))


def _explain(node):
    """Notes constant channels that had to stay because of this node."""
    if not (node.rule.creates(node) and node.rule.shrinks_with_input):
        return
    constants = node.constants()
    stay = node.reads[0] & ~np.isnan(constants) & (constants != 0)
    if np.any(stay):
        node.notes.append(
            f"reads {int(stay.sum())} of the channels that carry a constant: "
            "its bias cannot stand in for them, because the constant ends at "
            "padded borders or a whole group is read"
        )
