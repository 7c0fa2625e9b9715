"""Times of a piece as a sum over the channels that it reads and makes."""

import math

import numpy as np
from scipy import optimize

from l0keras.graph.costs import mac_arrays
from l0keras.graph.costs import weight_arrays
from l0keras.graph.rules import BARRIER
from l0keras.targets.latency.pieces import channels


def fit(piece, times, overhead):
    """Fits a + b n_in + c n_out + d n_in n_out, by non-negative least squares.

    Relative differences count, so that narrow widths do as much as wide ones.
    A piece of one width alone is taken to be as fast as it computes little.

    Args:
        piece: a `Piece`.
        times: a dictionary from its widths to microseconds, without the
            `overhead`.
        overhead: the microseconds that a file takes beside its layers.

    Returns:
        A function of a node, the piece's head or what became of it in another
        model, that returns a list of `(count, axes)` of `Rule.weights`, in
        microseconds.
    """
    if len(times) < 2 or (1, 1) not in times:
        total = sum(count * _full(axes) for count, axes in _spread(piece.head))
        factor = times.get((1, 1), 0.0) / total
        return lambda node: [(factor * c, axes) for c, axes in _spread(node)]
    axes = _axes(piece.head)
    rows = np.array([[_part(piece, p, one) for one in axes] for p in times])
    wanted = np.array(list(times.values()))
    weights = 1 / (wanted + overhead)
    shares, _ = optimize.nnls(rows * weights[:, None], wanted * weights)
    counts = [share / _full(one) for share, one in zip(shares.tolist(), axes)]
    return lambda node: [
        (count, one) for count, one in zip(counts, _axes(node)) if count > 0
    ]


def _axes(node):
    """What the time of a node may grow with: a list of lists of axes.

    Nothing; the channels that it makes and, if it makes some of its own, that
    it reads; and pairs of these, as its kernels have them.
    """
    if node.rule is BARRIER or not node.output.size:
        return [[]]
    found = [[], [(-1, np.arange(node.output.size))]]
    if node.rule.creates(node):
        arrays = [axes for _, axes in node.rule.weights(node)]
        found.extend([axis] for axes in arrays for axis in axes)
        found.extend(axes for axes in arrays if len(axes) > 1)
    # Several kernels may have the same ones.
    unique = {
        tuple((position, *indices.tolist()) for position, indices in axes): axes
        for axes in found
    }
    return list(unique.values())


def _full(axes):
    """How many combinations of indices axes have."""
    return math.prod(len(indices) for _, indices in axes)


def _part(piece, parts, axes):
    """How much of `_full(axes)` is left at a pair of widths."""
    head = piece.head
    given, made = parts
    own = made if head.rule.creates(head) else given
    left = 1.0
    for position, _ in axes:
        value = head.output if position < 0 else head.inputs[position]
        part = own if position < 0 else given
        left *= channels(value.size, part) / value.size
    return left


def _spread(node):
    """What the time of a node that has one width alone is spread over."""
    return mac_arrays(node) or weight_arrays(node) or [(1, _axes(node)[-1])]
