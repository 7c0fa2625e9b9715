import warnings

import numpy as np

from l0keras.graph.costs import weight_arrays
from l0keras.graph.rules import BARRIER

# Below this share of the weights a warning says why there are no more gates.
_SHARE = 0.5
_MOST_REASONS = 5


def warn_of_ungated(ties, groups, layers, left_out):
    """Warns if gates can free less than half of the weights of a model.

    Args:
        ties: the `Ties` of the model.
        groups: the groups that have gates.
        layers: the names of layers with gates inside.
        left_out: the groups and names of layers that the caller asked to
            leave without gates; they count as if they had some.
    """
    gated = {id(group) for group in groups}
    if not gated and not layers and not left_out:
        text = f"no channel of model '{ties.graph.model.name}' can have gates"
    else:
        text = None
    gated |= {id(x) for x in left_out if not isinstance(x, str)}
    inside = {*layers, *(x for x in left_out if isinstance(x, str))}
    total, kept = _count(ties, gated, inside)
    free = total - sum(kept.values())
    if not total or free >= _SHARE * total:
        return
    text = text or (
        f"gates can free {free:,.0f} of the {total:,} weights of model "
        f"'{ties.graph.model.name}', {free / total:.0%}"
    )
    ordered = sorted(kept.items(), key=lambda item: -item[1])
    reasons = [f"{n:,.0f} weights: {r}" for r, n in ordered[:_MOST_REASONS]]
    if len(ordered) > _MOST_REASONS:
        reasons.append(
            f"{len(ordered) - _MOST_REASONS} more, see "
            "`l0keras.channel_groups(model)`"
        )
    warnings.warn(f"{text}. What stays: {'; '.join(reasons)}.", stacklevel=3)


def _count(ties, gated, inside):
    """The weights of a model, and those that no gate frees.

    Returns:
        A pair: an integer, and a dictionary from reasons to numbers.
    """
    total, kept = 0, {}
    for node in ties.graph.nodes:
        weights = getattr(node.layer, "weights", ())
        size = sum(int(np.prod(weight.shape)) for weight in weights)
        if node.operation.nodes[0] is not node or not size:
            continue
        total += size
        if node.name in inside:
            continue
        if node.rule is BARRIER:
            kind = type(node.layer).__name__
            reason = f"'{node.name}' ({kind}) is {node.reasons[-1]}"
            kept[reason] = kept.get(reason, 0) + size
            continue
        for count, axes in weight_arrays(node):
            left, reason = _left(ties, node, count, axes, gated)
            if left:
                kept[reason] = kept.get(reason, 0) + left
    return total, kept


def _left(ties, node, count, axes, gated):
    """The weights of one array that no gate frees, and the reason."""
    reasons = []
    # The reason of the channels that it makes comes first.
    for position, channels in sorted(axes, key=lambda axis: axis[0]):
        value = node.output if position < 0 else node.inputs[position]
        indices = ties.indices(value)[channels].tolist()
        groups = [ties.groups[index] for index in indices if index >= 0]
        stay = [group for group in groups if id(group) not in gated]
        count *= indices.count(-1) + len(stay)
        reasons.extend(map(_of_group, stay[:1]))
    if not reasons:
        return count, f"'{node.name}' reads inputs of the model"
    return count, reasons[0]


def _of_group(group):
    makers = ", ".join(f"'{name}'" for name in group.makers[:2])
    more = len(group.makers) - 2
    if more > 0:
        makers += f" and {more} more"
    why = group.fixed[0] if group.fixed else "nobody reads them"
    return f"the {group.size} channels of {makers}: {why}"
