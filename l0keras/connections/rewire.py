"""Uniform draws of the connections that take the place of dead ones."""

from keras import ops
from keras import random

from l0keras.connections.positions import gather
from l0keras.connections.positions import scatter


def rewire(positions, dead, slots, proposed, propose, size):
    """Gives each dead slot a position that no other slot has.

    Rejection sampling in blocks: proposals are made uniformly, those that
    are taken or come up twice in a block are refused, and the first that are
    left fill the slots. Which are refused depends only on which are equal,
    so every set of free positions is as likely as any other of its size.

    Args:
        positions: int32 `(slots,)`, distinct except for dead slots. Those of
            dead slots may be drawn again.
        dead: bool `(slots,)`.
        slots: the `Groups` of the slots.
        proposed: the `Groups` of the proposals; those of a group fill the
            slots of the same group.
        propose: a function from the number of the round to int32 proposals
            `(proposals,)`. Those of different groups must be different.
        size: how many positions there are, if there is room for a vector of
            so many bytes. Otherwise `None`, and the positions must ascend.
            Which are drawn does not depend on it.

    Returns:
        The new positions, in which no two are equal.
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
        # The free ones of each group side by side, the others out of the way.
        place = ops.where(free, proposed.first + free_number - 1, behind)
        ordered = scatter(place, proposals, behind + 1)
        first = slots.spread(proposed.starts)
        place = ops.where(filled, first + dead_number - 1, 0)
        positions = ops.where(filled, gather(ordered, place), positions)
        dead = ops.logical_and(dead, ops.logical_not(filled))
        return number + 1, positions, dead

    def fill_by_order(number, positions, dead):
        return fill(number, positions, dead, _free_by_order)

    # Mostly enough, and outside of a loop ten times as fast as in it.
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
    """Whether a proposal is the only one who has its position."""
    alive = ops.where(dead, size, positions)
    everyone = ops.concatenate([alive, proposals])
    ones = ops.ones(everyone.shape, "int8")
    return ops.equal(gather(scatter(everyone, ones, size + 1), proposals), 1)


def _free_by_search(proposals, positions, dead):
    """The same for ascending positions, of which there may be too many."""
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
    """The same for positions in any order."""
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
    """Their order, they themselves in it, and whether neighbours equal."""
    order = ops.cast(ops.argsort(proposals), "int32")
    ordered = gather(proposals, order)
    same = ops.cast(ops.equal(ordered[1:], ordered[:-1]), "int32")
    return order, ordered, ops.pad(same, [(1, 0)]) + ops.pad(same, [(0, 1)])


def rewire_crowded(positions, dead, size, weights, seed):
    """As `rewire`, for arrays that are small or whose positions are taken.

    All positions that are free are put into random order, in O(size log
    size), which no number of refused proposals can make longer.

    Args:
        positions, dead: see `rewire`.
        size: how many positions there are.
        weights: float32 `(size,)`, how likely each position is to be the
            next; or `None` where they are equally likely.
        seed: a seed generator.
    """
    uniform = random.uniform((size,), dtype="float32", seed=seed)
    # The first of exponential variables is that of a position with the
    # probability of its share in all rates, and so is the next one after it.
    order = -ops.log1p(-uniform)
    if weights is not None:
        order = order / weights
    alive = ops.where(dead, size, positions)
    taken = scatter(alive, ops.ones_like(positions), size + 1)[:size]
    order = ops.argsort(ops.where(taken > 0, float("inf"), order))
    number = ops.cumsum(ops.cast(dead, "int32")) - 1
    drawn = gather(order, ops.maximum(number, 0))
    return ops.where(dead, ops.cast(drawn, "int32"), positions)
