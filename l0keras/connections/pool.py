"""Pools: the variables that are rewired together.

A pool has a slot for each active connection of its variables. A step then
has few and short operations, on vectors `(slots,)`. A position in a pool
counts through its variables: it is a position in a variable plus the base of
that variable.
"""

import collections
import math

import numpy as np
from keras import ops
from keras import random

from l0keras.connections.positions import MOST_POSITIONS
from l0keras.connections.positions import gather
from l0keras.connections.rewire import rewire
from l0keras.connections.rewire import rewire_crowded
from l0keras.connections.seeds import StepSeed
from l0keras.connections.segments import Segments

# A variable of a pool. It has `size` entries, the first at position `base`
# of the pool, and `count` connections at the start, the first in slot `start`.
# `share` is count / size. Its positions are drawn as a row and a column.
Member = collections.namedtuple(
    "Member", "variable size base count start share rows columns"
)

# Above this share of active connections most proposals would be refused, and
# up to this size any way of drawing is fast enough.
_CROWDED_SHARE = 0.5
_CROWDED_SIZE = 128
# A block has a proposal for one slot in 8, and for one in 64 of many slots.
_TURNOVER = (8, 64)
_MANY = 1024


def is_crowded(share, size):
    """Whether new positions are drawn by sorting instead of proposing."""
    return share > _CROWDED_SHARE or size <= _CROWDED_SIZE


def divide_into_pools(counted, budget):
    """Chooses the variables of each pool.

    Args:
        counted: a list of pairs of a variable and its number of connections.
        budget: `"layer"` or `"global"`.

    Returns:
        A list with a list of pairs for each pool.

    Raises:
        ValueError: the variables of a global budget have too many entries.
    """
    sizes = [math.prod(variable.shape) for variable, _ in counted]
    if budget == "global":
        if sum(sizes) > MOST_POSITIONS:
            raise ValueError(
                "Argument `budget` must be 'layer' for models of more than "
                f"{MOST_POSITIONS} potential connections. Received: "
                f"budget='global' with {sum(sizes)}"
            )
        return [counted]
    pools = []
    joint, room = [], 0
    for (variable, count), size in zip(counted, sizes):
        if is_crowded(count / size, size):
            pools.append([(variable, count)])
        elif size <= room and joint[-1][0].dtype == variable.dtype:
            joint.append((variable, count))
            room -= size
        else:
            joint = [(variable, count)]
            room = MOST_POSITIONS - size
            pools.append(joint)
    return pools


def members_of(counted):
    """The members of a pool, for its pairs of a variable and a count."""
    members = []
    base = start = 0
    for variable, count in counted:
        size = math.prod(variable.shape)
        columns = variable.shape[-1]
        rows = size // columns
        share = count / size
        members.append(
            Member(variable, size, base, count, start, share, rows, columns)
        )
        base += size
        start += count
    return members


class Pool:
    """Draws new positions for the dead slots of a pool.

    Args:
        members: a list of `Member`.
        pinned: whether a slot stays in its variable. Otherwise only the
            number of all connections together is fixed.
        stream: an integer, another one for each pool of an optimizer.
    """

    # Whether a vector with a byte for each position fits into memory.
    counts_positions = True

    def __init__(self, members, pinned, stream):
        self.members = members
        self.pinned = pinned
        self._stream = stream
        self.slots = sum(member.count for member in members)
        self.size = sum(member.size for member in members)
        if pinned:
            blocks = [_block(member.count, member.size) for member in members]
            counts = [member.count for member in members]
        else:
            blocks = [_block(self.slots, self.size)]
            counts = [self.slots]
        self._proposed = Segments(blocks)
        self._slots = Segments(counts)
        self._crowded = any(is_crowded(m.share, m.size) for m in members)

    def seed(self, seed, purpose, step):
        """The seed of the noise (purpose 0) or the positions (1) of a step."""
        return StepSeed(seed + (2 * self._stream + purpose), step)

    def rewire(self, positions, dead, seed, step):
        """Gives the dead slots new positions, see the function `rewire`."""
        if self._crowded:
            draw = self.seed(seed, 1, step)
            weights = None if self.pinned else self._weights()
            return rewire_crowded(positions, dead, self.size, weights, draw)

        def propose(number):
            # Round 65 draws the same numbers as the first of the next step.
            return self._propose(self.seed(seed, 1, step * 64 + number))

        size = self.size if self.counts_positions else None
        return rewire(
            positions, dead, self._slots, self._proposed, propose, size
        )

    def _weights(self):
        return np.repeat(
            np.array([member.share for member in self.members], "float32"),
            [member.size for member in self.members],
        )

    def _of_members(self, field):
        values = [getattr(member, field) for member in self.members]
        return np.array(values, "int32")

    def _propose(self, seed):
        """Proposals: uniform in their member, or in all by their shares."""
        count = int(self._proposed.counts.sum())
        # Rows and columns are drawn apart: the remainder of 31 random bits
        # is nearly uniform only for small divisors.
        draws = random.randint((3, count), 0, 2**31 - 1, "int32", seed)
        rows, columns, bases = (
            self._of_members(field) for field in ("rows", "columns", "base")
        )
        if self.pinned:
            rows, columns, bases = (
                self._proposed.spread(of) for of in (rows, columns, bases)
            )
        else:
            shares = [member.share * member.size for member in self.members]
            edges = np.cumsum(shares)[:-1] / np.sum(shares) * (2**31 - 1)
            member = ops.searchsorted(
                edges.astype("int32"), draws[2], side="right"
            )
            rows, columns, bases = (
                gather(of, member) for of in (rows, columns, bases)
            )
        row, column = ops.mod(draws[0], rows), ops.mod(draws[1], columns)
        return bases + row * columns + column


def _block(count, size):
    """The number of proposals in a block, for `count` slots."""
    few, many = (-(-count // turnover) for turnover in _TURNOVER)
    # Of more proposals than positions, most would be duplicates.
    return min(max(32, min(few, _MANY), many), size // 4)
