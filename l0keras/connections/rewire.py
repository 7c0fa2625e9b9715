"""Uniform draws of new positions for dead connections."""

import numpy as np
from keras import ops
from keras import random

from l0keras.connections.positions import gather
from l0keras.connections.positions import scatter


def rewire(positions, dead, slots, proposed, propose, size):
    """Gives each dead slot a position that no other slot has.

    This is rejection sampling in blocks. A block of proposals is drawn
    uniformly; a proposal is refused if its position is taken or comes up
    twice in the block; the first of the remaining proposals fill the slots.
    A refusal depends only on which positions are equal, so all sets of free
    positions of one size are equally likely.

    Args:
        positions: int32 `(slots,)`. Live slots have distinct positions; the
            position of a dead slot may be drawn again.
        dead: bool `(slots,)`.
        slots: the `Segments` of the slots.
        proposed: the `Segments` of the proposals. Proposals of a segment
            fill slots of the segment with the same index.
        propose: a function from the number of the round to int32 proposals
            `(proposals,)`. Different segments have different positions.
        size: the number of positions, if a vector of that many bytes fits
            into memory. Otherwise `None`, and `positions` must ascend. The
            result is the same in both cases.

    Returns:
        The new positions, int32 `(slots,)`, all distinct.
    """
    behind = proposed.starts[-1] + proposed.counts[-1]

    def free_by_count(proposals, positions, dead):
        return _free_by_count(proposals, positions, dead, size)

    def fill(number, positions, dead, free_of=free_by_count):
        proposals = propose(number)
        free = free_of(proposals, positions, dead)
        free_number, free_counts = proposed.number(free)
        dead_number, _ = slots.number(dead)
        filled = ops.logical_and(dead, dead_number <= slots.spread(free_counts))
        # Free proposals of a segment lie side by side, all others behind.
        place = ops.where(free, proposed.first + free_number - 1, behind)
        ordered = scatter(place, proposals, behind + 1)
        first = slots.spread(proposed.starts)
        place = ops.where(filled, first + dead_number - 1, 0)
        positions = ops.where(filled, gather(ordered, place), positions)
        dead = ops.logical_and(dead, ops.logical_not(filled))
        return number + 1, positions, dead

    def fill_by_order(number, positions, dead):
        return fill(number, positions, dead, _free_by_order)

    # The first round is mostly enough, and it takes a tenth of the time
    # outside of the loop.
    zero = ops.convert_to_tensor(0, "int32")
    if size is not None:
        state = fill(zero, positions, dead)
    else:
        state = fill(zero, positions, dead, _free_by_search)
    _, positions, _ = ops.while_loop(
        lambda number, positions, dead: ops.any(dead),
        fill if size is not None else fill_by_order,
        state,
    )
    return positions


def _free_by_count(proposals, positions, dead, size):
    """Whether a proposal alone has its position."""
    alive = ops.where(dead, size, positions)
    everyone = ops.concatenate([alive, proposals])
    ones = ops.ones(everyone.shape, "int8")
    return ops.equal(gather(scatter(everyone, ones, size + 1), proposals), 1)


def _free_by_search(proposals, positions, dead):
    """As `_free_by_count` for ascending positions, without a byte for each."""
    place = ops.cast(ops.searchsorted(positions, proposals), "int32")
    place = ops.minimum(place, positions.shape[0] - 1)
    alive = ops.logical_not(gather(dead, place))
    meets = ops.logical_and(
        ops.equal(gather(positions, place), proposals), alive
    )
    order, _, twice = _sorted(proposals)
    return ops.logical_and(
        ops.logical_not(meets),
        ops.equal(scatter(order, twice, proposals.shape[0]), 0),
    )


def _free_by_order(proposals, positions, dead):
    """As `_free_by_count` for positions in any order, without the bytes."""
    count = proposals.shape[0]
    order, ordered, twice = _sorted(proposals)
    alive = ops.where(dead, -1, positions)
    place = ops.cast(ops.searchsorted(ordered, alive), "int32")
    inside = ops.minimum(place, count - 1)
    meets = ops.equal(gather(ordered, inside), alive)
    place = ops.where(meets, inside, count)
    taken = scatter(place, ops.cast(meets, "int32"), count + 1)[:count]
    return ops.equal(scatter(order, taken + twice, count), 0)


def _sorted(proposals):
    """The sorting order, the sorted proposals, and 1 or 2 for duplicates."""
    order = ops.cast(ops.argsort(proposals), "int32")
    ordered = gather(proposals, order)
    same = ops.cast(ops.equal(ordered[1:], ordered[:-1]), "int32")
    return order, ordered, ops.pad(same, [(1, 0)]) + ops.pad(same, [(0, 1)])


def rewire_ascending(positions, dead, share, propose):
    """As `rewire`, for ascending positions of one segment, on TensorFlow.

    Its time grows with the number of dead slots. A proposal is refused if its
    position is taken, by a slot or by an earlier proposal.

    Args:
        positions: int32 `(slots,)`, ascending.
        dead: bool `(slots,)`.
        share: the share of positions that are taken, below 1.
        propose: a function from the number of the round and a number of
            proposals to int32 proposals.

    Returns:
        The new positions, int32 `(slots,)`, all distinct.
    """
    import tensorflow as tf

    slots = tf.where(dead)
    missing = tf.shape(slots)[0]

    def draw(number, drawn):
        short = tf.cast(missing - tf.size(drawn), "float32")
        count = tf.cast(1.05 * short / (1.0 - share), "int32") + 32
        proposals = propose(number, count)
        place = tf.searchsorted(positions, proposals)
        place = tf.minimum(place, positions.shape[0] - 1)
        taken = tf.equal(tf.gather(positions, place), proposals)
        taken &= ~tf.gather(dead, place)
        drawn = tf.concat([drawn, tf.boolean_mask(proposals, ~taken)], 0)
        # In the order of the draws, or small positions would be favoured.
        drawn, _ = tf.unique(drawn)
        return number + 1, drawn[:missing]

    _, drawn = tf.while_loop(
        lambda number, drawn: tf.size(drawn) < missing,
        draw,
        (tf.constant(0), tf.zeros((0,), "int32")),
        (tf.TensorShape(()), tf.TensorShape((None,))),
    )
    return tf.tensor_scatter_nd_update(positions, slots, drawn)


def rewire_on_host(positions, dead, size, rng):
    """As `rewire`, for ascending positions of one segment, in NumPy.

    Args:
        positions: int32 numpy array `(slots,)`, ascending.
        dead: bool numpy array `(slots,)`.
        size: the number of positions.
        rng: a `numpy.random.Generator`.

    Returns:
        The new positions, an int32 numpy array `(slots,)`, all distinct.
    """
    slots = np.flatnonzero(dead)
    share = len(positions) / size
    drawn = np.empty(0, "int32")
    while len(drawn) < len(slots):
        short = len(slots) - len(drawn)
        count = int(1.05 * short / (1.0 - share)) + 32
        proposals = rng.integers(0, size, count, "int32")
        place = np.searchsorted(positions, proposals)
        place = np.minimum(place, len(positions) - 1)
        taken = (positions[place] == proposals) & ~dead[place]
        drawn = np.concatenate([drawn, proposals[~taken]])
        # In the order of the draws, or small positions would be favoured.
        _, first = np.unique(drawn, return_index=True)
        drawn = drawn[np.sort(first)][: len(slots)]
    positions = positions.copy()
    positions[slots] = drawn
    return positions


def rewire_crowded(positions, dead, size, weights, seed):
    """As `rewire`, for arrays that are small or nearly full.

    All free positions are put into random order, in O(size log size). In
    nearly full arrays `rewire` would refuse most of its proposals.

    Args:
        positions, dead: see `rewire`.
        size: the number of positions.
        weights: float32 `(size,)`, the relative probability of each
            position; or `None` if all are equally likely.
        seed: a seed generator.

    Returns:
        The new positions, int32 `(slots,)`, all distinct.
    """
    uniform = random.uniform((size,), dtype="float32", seed=seed)
    # Of exponential variables, each is the smallest with a probability in
    # proportion to its rate; the same holds for the next among the others.
    order = -ops.log1p(-uniform)
    if weights is not None:
        order = order / weights
    alive = ops.where(dead, size, positions)
    taken = scatter(alive, ops.ones_like(positions), size + 1)[:size]
    order = ops.argsort(ops.where(taken > 0, float("inf"), order))
    number = ops.cumsum(ops.cast(dead, "int32")) - 1
    drawn = gather(order, ops.maximum(number, 0))
    return ops.where(dead, ops.cast(drawn, "int32"), positions)
