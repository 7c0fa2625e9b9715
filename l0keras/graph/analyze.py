import keras

from l0keras.graph.graph import Graph
from l0keras.graph.reversible import find_masks
from l0keras.graph.reversible import split_reversed
from l0keras.graph.rules import BARRIER
from l0keras.graph.rules import OtherAxis
from l0keras.graph.rules import rule_of
from l0keras.graph.split_apart import split_apart
from l0keras.graph.trace import trace


def channel_graph(model: keras.Model) -> Graph:
    """Reads which channels a model has, who makes and who reads them.

    Args:
        model: a built `keras.Model`. It is only
            read; nested models become part of the graph.

    Returns:
        A `Graph`. Printing it shows one line for each tensor, and what is
        not known about a layer.

    Raises:
        ValueError: `model` is no Keras model, not built, or has a `call` that
            cannot be opened.

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
    split_reversed(graph)
    find_masks(graph)
    # Pooling without weights may well be meant to go over the channels.
    channels_first = any(
        getattr(node.layer, "weights", None)
        and getattr(node.layer, "data_format", None) == "channels_first"
        for node in graph.nodes
    )

    def free_axis(value):
        return 1 if channels_first and value.rank > 2 else value.rank - 1

    for value in graph.values:
        value.axis = free_axis(value)
    barriers = set()
    common = _common_weights(graph)
    # Where a layer finds the channels along another axis than its own, it is
    # better that what put them there loses sight of them.
    while moved := _assign(graph, barriers, common, free_axis):
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
    for node in graph.nodes:
        pair = node.operation.paired
        if pair and pair.nodes[0].rule is BARRIER and node.rule is not BARRIER:
            node.reasons.extend(pair.nodes[0].reasons)
            node.rule = BARRIER


def _common_weights(graph):
    """Layers that have weights of other layers, and the names of those.

    Such as an embedding that a layer which is not known holds, too: cut for
    itself, it would not fit there any more.

    Returns:
        A dictionary from operations to strings.
    """
    owners, common = {}, {}
    for operation in dict.fromkeys(node.operation for node in graph.nodes):
        for weight in getattr(operation.owner, "weights", ()):
            owner = owners.setdefault(id(weight), operation)
            if owner not in (operation, operation.paired):
                common[operation] = owner.name
                common[owner] = operation.name
    return common


def _assign(graph, barriers, common, free_axis):
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
        elif node.operation in common and node.rule is not BARRIER:
            node.rule = BARRIER
            other = common[node.operation]
            reason = f"has weights in common with '{other}'"
        if reason:
            node.reasons.append(f"kept as it is: {reason}")
        if isinstance(reason, OtherAxis):
            moved |= _movers(node, free_axis)
        axis = node.rule.output_axis(node)
        if axis is not None:
            for value in node.outputs:
                # The same, counted from the last one.
                value.axis = axis - node.output.rank + value.rank
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
