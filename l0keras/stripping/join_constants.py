import numpy as np

from l0keras.graph.rules import BARRIER

# How many times larger a constant may be than the one that stands in for it:
# the rounding error of that one grows as much.
_LARGER = 10.0


def join_constants(graph):
    """Lets one constant channel stand in for all others of its tensor.

    At padded borders a constant ends, so a bias cannot take its place. But
    there too it is a multiple of any other constant channel, which can be
    read in its place. The channel itself then need not be made.

    Args:
        graph: a `Graph` with its constants and what is live; weights in it
            are changed.

    Returns:
        Whether there were any to join.
    """
    changed = False
    for value in graph.values:
        changed |= _join(value)
    return changed


def _join(value):
    constant = np.nan_to_num(value.constants) != 0
    readers, elsewhere = [], constant & value.is_output
    for node, position in value.readers:
        mask = node.reads[position] & constant
        if position == 0 and _takes_joined(node):
            readers.append((node, mask))
        else:
            elsewhere |= mask
    together = np.any([mask for _, mask in readers], axis=0)
    if not np.any(together):
        return False
    first = _stand_in(np.abs(value.constants), together, elsewhere)
    changed = False
    for node, mask in readers:
        others = mask & (np.arange(value.size) != first)
        if np.sum(mask) == 1:
            # Another one that is there anyway would be no better.
            others &= ~elsewhere
        if np.any(others):
            ratios = value.constants / value.constants[first]
            node.rule.join_inputs(node, first, np.where(others, ratios, 0.0))
            _check_joined(node, mask & others)
            changed = True
    return changed


def _check_joined(node, others):
    """Refuses a rule that goes on reading what it should not: it never ends."""
    still = node.rule.reads(node, node.made)[0] & others
    if np.any(still):
        raise ValueError(
            f"The rule {type(node.rule).__name__} of layer '{node.name}' "
            f"({type(node.layer).__name__}) must not read a channel any more "
            "that `join_inputs` was given a factor for. It still reads "
            f"{np.flatnonzero(still).tolist()}"
        )


def _takes_joined(node):
    if node.rule is BARRIER or not node.alive or node.operation.shared:
        return False
    return node.rule.takes_joined_inputs(node)


def _stand_in(sizes, together, elsewhere):
    """The largest, out of those that are read elsewhere if that will do."""
    enough = np.max(sizes[together]) / _LARGER
    there = elsewhere & (sizes >= enough)
    candidates = there if np.any(there) else together
    return int(np.argmax(np.where(candidates, sizes, 0.0)))


def silence(graph):
    """Makes units constant that are only there because something has to be.

    A layer keeps a unit if all that is read of it is its shape, and each
    channel of a merge needs one of every input. What such units read need not
    be made.

    Args:
        graph: a `Graph` with its constants and what is live; weights in it
            are changed.

    Returns:
        Whether there were any.
    """
    changed = False
    for node in graph.nodes:
        if node.rule is BARRIER or not node.alive or node.operation.shared:
            continue
        idle = node.made & ~node.needs & np.isnan(node.output.constants)
        if np.any(idle):
            changed |= node.rule.silence(node, idle)
    return changed
