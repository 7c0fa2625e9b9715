import keras
import numpy as np

from l0keras.graph.graph import unknown
from l0keras.graph.rules import BARRIER
from l0keras.graph.rules import OtherAxis
from l0keras.graph.rules import rule_of
from l0keras.graph.split_apart import split_apart
from l0keras.graph.trace import trace


def channel_graph(model):
    """Reads which channels a model has, who makes and who reads them.

    Args:
        model: a built `Sequential` or functional `keras.Model`. It is only
            read; nested models become part of the graph.

    Returns:
        A `Graph`. Printing it shows one line for each tensor, and what is
        not known about a layer.

    Raises:
        ValueError: `model` is subclassed, not built or no Keras model.

    Example:

    >>> print(channel_graph(model))
    """
    graph = trace(model, baked=False)
    find_rules(graph)
    return graph


def find_rules(graph):
    """Gives every value its channel axis and every node its rule.

    Args:
        graph: a `Graph`; ops with several outputs are replaced, see
            `split_apart`.
    """
    split_apart(graph)
    channels_first = any(
        getattr(node.layer, "data_format", None) == "channels_first"
        for node in graph.nodes
    )

    def free_axis(value):
        return 1 if channels_first and value.rank > 2 else value.rank - 1

    for value in graph.values:
        value.axis = free_axis(value)
    barriers = set()
    # Where a layer finds the channels along another axis than its own, it is
    # better that what put them there loses sight of them.
    while moved := _assign(graph, barriers, free_axis):
        barriers |= moved
    for node in graph.nodes:
        # Calls of one layer have to agree, so what refuses one refuses all.
        others = node.operation.nodes
        if any(n.rule is not others[0].rule for n in others) or (
            node.operation.shared and len({len(n.inputs) for n in others}) > 1
        ):
            if node.rule is not BARRIER:
                node.reasons.append("kept as it is: shared with other uses")
            node.rule = BARRIER


def _assign(graph, barriers, free_axis):
    """Gives nodes their rules; returns which moved channels out of place."""
    moved = set()
    for node in graph.nodes:
        node.reasons.clear()
        for value in node.outputs:
            value.axis = free_axis(value)
        node.rule, reason = rule_of(node)
        if node in barriers:
            node.rule = BARRIER
            reason = "moves channels to where a later layer has other ones"
        if reason:
            node.reasons.append(f"kept as it is: {reason}")
        if isinstance(reason, OtherAxis):
            moved |= _movers(node, free_axis)
        axis = node.rule.output_axis(node)
        if axis is not None:
            for value in node.outputs:
                value.axis = axis
        if node.rule is not BARRIER:
            for value in node.outputs:
                # Keras has any product with a number claim to be sparse.
                value.sparse &= any(given.sparse for given in node.inputs)
    return moved


def _movers(node, free_axis):
    """The nodes that brought the channels of a node's inputs out of place."""

    def out_of_place(value):
        return value.producer and value.axis != free_axis(value)

    found, seen, stack = set(), set(), [node]
    while stack:
        for value in filter(out_of_place, stack.pop().inputs):
            producer = value.producer
            if any(map(out_of_place, producer.inputs)):
                if producer not in seen:
                    seen.add(producer)
                    stack.append(producer)
            elif not getattr(producer.layer, "weights", None):
                found.add(producer)
    return found


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


def find_live(graph, min_units=1, round_to=1):
    """Backwards: which channels somebody needs, and which nodes.

    Args:
        graph: a `Graph` with its constants.
        min_units: how many channels each layer keeps at least, where it
            chooses them for itself.
        round_to: widths are rounded up to multiples of this.
    """
    while True:
        _settle(graph, min_units, round_to)
        idle = [node for node in graph.nodes if not node.alive]
        if not any(node.operation.shared for node in idle):
            return
        # The other calls need not agree with these.
        graph.drop(idle)
        propagate_constants(graph)


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
        node.made = node.rule.makes(node, node.output.live)
        _explain_more(node)
        if node.operation.shared:
            known = needed.get(id(node.operation), False)
            node.made = node.rule.makes(node, node.made | known)
            needed[id(node.operation)] = node.made
        _find_needs(node, _keep_some(node, min_units, round_to))
        node.output.live = node.made
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
        # What was added may be trained again, so it is left as it is.
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
    reads = node.rule.reads(node, node.needs)
    varying = node.needs & np.isnan(node.output.constants)
    if np.array_equal(varying, node.needs) or not np.any(node.needs):
        return reads
    # What is constant whatever an input is does not need it.
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
        wanted = max(count, 1)
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
        node.output.kept = node.rule.keeps(node)
        node.output.spare = _spare(node)
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
    common = np.ones(size, bool)
    for position in full:
        common &= np.isin(np.arange(size), node.inputs[position].kept)
    common = np.flatnonzero(common)
    for position in full:
        if not np.array_equal(common, node.inputs[position].kept):
            node.takes[position] = common


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
            f"reads {int(stay.sum())} channels that carry a constant: its "
            "bias cannot stand in for them, because the constant ends at "
            "padded borders or a whole group is read"
        )
