import numpy as np

from l0keras.graph.rules import BARRIER
from l0keras.stripping.constants import propagate_constants


def find_live(graph, min_units=1, round_to=1, propagate=propagate_constants):
    """Backwards: which channels somebody needs, and which nodes.

    Args:
        graph: a `Graph` with its constants.
        min_units: how many channels each layer keeps at least, where it
            chooses them for itself.
        round_to: widths are rounded up to multiples of this.
        propagate: what finds the constants of a graph.
    """
    while True:
        _settle(graph, min_units, round_to)
        idle = [node for node in graph.nodes if not node.alive]
        if not any(node.operation.shared for node in idle):
            return
        # The other calls need not agree with these.
        graph.drop(idle)
        propagate(graph)


def _find_gone(graph):
    """Forwards: which channels would need a node that was dropped."""
    for value in graph.values:
        value.gone = np.zeros(value.size, bool)
    for node in graph.nodes:
        if node.rule is BARRIER:
            continue
        sources = node.rule.sources(node)
        for value, source in zip(node.inputs, sources, strict=True):
            known = source >= 0
            node.output.gone[known] |= value.gone[source[known]]


def _settle(graph, min_units, round_to):
    needed, agreed = {}, {}
    stable = False
    _find_gone(graph)
    # What shared layers need only grows, until all calls agree.
    while not stable:
        stable = True
        for value in graph.values:
            value.live = np.full(value.size, value.is_output)
            value.needed = value.live.copy()
        for node in reversed(graph.nodes):
            node.notes.clear()
            _find_live(node, min_units, round_to, needed)
            if node.operation.shared and node.alive:
                stable &= _agree(node, agreed)
            for value, mask, right in zip(
                node.inputs, node.reads, _needed(node), strict=True
            ):
                value.live = value.live | mask
                value.needed = value.needed | right


def _find_live(node, min_units, round_to, needed):
    node.alive = any(
        value.is_output
        or any(
            reader.alive and reader.reads_from(position)
            for reader, position in value.readers
        )
        for value in node.outputs
    )
    if not node.alive:
        node.made = np.zeros_like(node.outputs[0].live)
        node.needs = node.made
        node.reads = [np.zeros(value.size, bool) for value in node.inputs]
        return
    if node.rule is BARRIER:
        node.made = node.needs = np.ones(0, bool)
        for value in node.outputs:
            value.live[:] = True
    else:
        parts = node.rule.parts(node)
        for value, part in zip(node.outputs[1:], parts[1:]):
            node.output.live[part] |= value.live
            node.output.needed[part] |= value.needed
        node.made = node.rule.makes(node, node.output.live)
        _explain_more(node)
        if node.operation.shared:
            known = needed.get(id(node.operation), False)
            node.made = node.rule.makes(node, node.made | known)
            needed[id(node.operation)] = node.made
        _find_needs(node, _keep_some(node, min_units, round_to))
        for value, part in zip(node.outputs, parts):
            value.live = node.made[part]
    node.reads = node.rule.reads(node, node.made)


def _find_needs(node, added):
    """Which of the channels that a node makes have to be right.

    Args:
        node: the `Node`.
        added: a mask of units that only the width asked for needs.
    """
    needed = node.output.needed
    if node.operation.shared:
        node.needs, node.spare = node.made, added
    elif np.any(needed):
        # Added units may be trained again, so they keep their weights.
        node.needs = node.rule.makes(node, needed | added)
        node.spare = node.made & ~node.rule.makes(node, needed)
    else:
        node.needs, node.spare = np.zeros_like(node.made), node.made


def _needed(node):
    """The channels of each input that have to be right, where it reads them.

    Others it may read only because each of its outputs has an input.
    """
    if node.rule is BARRIER or not node.alive:
        return node.reads
    reads = node.reads
    if node.operation.shared or not np.array_equal(node.needs, node.made):
        reads = node.rule.reads(node, node.needs)
    varying = node.needs & np.isnan(node.output.constants)
    if node.rule.creates(node) or np.array_equal(varying, node.needs):
        # A unit that is constant reads nothing that varies.
        return reads
    # A channel that is constant for all inputs needs none of them.
    if np.any(varying):
        varying = node.rule.makes(node, varying)
    return [
        mask & ~np.isnan(value.constants) | needed
        for value, mask, needed in zip(
            node.inputs, reads, node.rule.reads(node, varying), strict=True
        )
    ]


def _agree(node, agreed):
    """Makes all calls read the same; whether this is what was known."""
    others = [node.rule.reads(n, node.made) for n in node.operation.nodes]
    node.reads = [np.any(masks, axis=0) for masks in zip(*others, strict=True)]
    for mask in node.reads:
        # Which of many unread ones stands in has to be the same everywhere.
        mask[:1] |= not np.any(mask)
    before = agreed.get(id(node.operation))
    agreed[id(node.operation)] = now = [node.made, *node.reads]
    return before is not None and all(map(np.array_equal, before, now))


def _explain_more(node):
    more = int(np.sum(node.made & ~node.output.live))
    if more:
        node.notes.append(
            f"makes {more} units that nobody needs: they come together with "
            "others, by groups, depth multiplier, recurrence, or a "
            "normalization or an activation that may mix units"
        )


def _keep_some(node, min_units, round_to):
    """Adds units that nobody needs, so that widths are as asked for.

    Only where widths are chosen, or inputs have to be alike: what maps each
    channel on its own has the width of its input.

    Returns:
        A mask of the units that it added.
    """
    before = node.made
    size, count = len(node.made), int(node.made.sum())
    creates, aligns = node.rule.creates(node), node.rule.aligns
    wanted = count
    if creates:
        wanted = max(count, min(min_units, size))
    elif (
        aligns or node.rule.optional_inputs or node.rule.takes_whole_sets(node)
    ):
        # Not any unit that its inputs happen to have will do.
        wanted = max(count, min(1, size))
    if node.rule.rounds and (creates or aligns):
        wanted = min(-(-wanted // round_to) * round_to, size)
    if wanted <= count:
        return np.zeros(size, bool)
    spare = np.flatnonzero(~node.made & ~node.output.gone)
    # A unit that is constant does not keep other units alive.
    calls = node.operation.nodes if node.operation.shared else [node]
    varies = sum(np.isnan(call.output.constants[spare]) for call in calls)
    chosen = spare[np.argsort(varies, kind="stable")][: wanted - count]
    made = node.made.copy()
    made[chosen] = True
    node.made = node.rule.makes(node, made)
    if count < (min(min_units, size) if creates else 1):
        lost = f"all but {count}" if count else "all"
        node.notes.append(
            f"would lose {lost} of its units; keeps {int(node.made.sum())}"
        )
    return node.made & ~before
