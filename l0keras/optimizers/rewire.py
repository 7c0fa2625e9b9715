"""Uniform draws of the connections that take the place of dead ones."""

from keras import ops
from keras import random

from l0keras.positions import gather
from l0keras.positions import scatter


def rewire(positions, dead, groups, starts, propose):
    """Gives each dead slot a position that no other slot has.

    Sequential sampling without replacement, in blocks: proposals are made
    uniformly, those that are taken or have come before are refused, and the
    first that are left fill the slots. This takes O(slots), however many
    positions there are.

    Args:
        positions: int32 `(slots,)`, distinct except for dead slots. Those of
            dead slots may be drawn again.
        dead: bool `(slots,)`.
        groups: int32 `(slots,)`: which row of proposals a slot is filled
            from, in ascending order; or `None` where there is one row.
        starts: a list of the first slot of each group.
        propose: a function from the number of the round to int32 proposals
            `(groups, block)`. Proposals of different groups differ.

    Returns:
        The new positions, in which no two are equal.
    """
    slots = positions.shape[0]

    def round_of(number, positions, dead):
        proposals = propose(number)
        block = proposals.shape[1]
        free = _are_free(ops.reshape(proposals, (-1,)), positions, dead)
        free = ops.cast(ops.reshape(free, proposals.shape), "int32")
        # Numbers of free proposals and of dead slots, each within its group
        # and from 1 on.
        free_number = ops.cumsum(free, axis=1)
        counts = free_number[:, -1]
        ones = ops.cast(dead, "int32")
        dead_number = ops.cumsum(ones)
        row = 0
        if groups is not None:
            before = gather(dead_number - ones, starts)
            dead_number -= gather(before, groups)
            counts = gather(counts, groups)
            row = groups * block
        filled = ops.logical_and(dead, dead_number <= counts)
        # The free ones side by side; the others go behind the end.
        rows = ops.expand_dims(ops.arange(proposals.shape[0]) * block, 1)
        places = rows + free_number - 1
        places = ops.where(free > 0, places, ops.size(free))
        ordered = scatter(
            ops.reshape(places, (-1,)),
            ops.reshape(proposals, (-1,)),
            free.shape[0] * block + 1,
        )
        place = ops.where(filled, row + dead_number - 1, 0)
        positions = ops.where(filled, gather(ordered, place), positions)
        dead = ops.logical_and(dead, ops.logical_not(filled))
        return number + 1, positions, dead

    if slots == 0:
        return positions
    _, positions, _ = ops.while_loop(
        lambda number, positions, dead: ops.any(dead),
        round_of,
        (ops.convert_to_tensor(0, "int32"), positions, dead),
    )
    return positions


def _are_free(proposals, positions, dead):
    """Whether nobody has a proposal, nor has it come up before."""
    count = proposals.shape[0]
    # Argsort need not be stable: equal proposals are the same connection.
    order = ops.argsort(proposals)
    ordered = gather(proposals, order)
    first = ordered[1:] != ordered[:-1]
    first = ops.concatenate([ops.ones((1,), "bool"), first])
    alive = ops.where(dead, -1, positions)
    place = ops.cast(ops.searchsorted(ordered, alive), "int32")
    inside = ops.minimum(place, count - 1)
    meets = gather(ordered, inside) == alive
    meets = scatter(
        ops.where(meets, inside, count), ops.cast(meets, "int32"), count + 1
    )
    free = ops.logical_and(first, meets[:count] == 0)
    return scatter(ops.cast(order, "int32"), ops.cast(free, "int32"), count) > 0


def rewire_crowded(positions, dead, size, weights, seed):
    """As `rewire`, for arrays whose positions are mostly taken.

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
