import numpy as np

from l0keras.graph.rules import BARRIER


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
