"""The connections of one or more arrays, as slots of one vector.

A pool joins the arrays that are rewired together, so that a step has few and
short operations: everything is done on vectors of one entry per connection.
"""

import collections
import math

import numpy as np
from keras import ops
from keras import random

from l0keras.connections.positions import MOST_POSITIONS
from l0keras.connections.positions import StepSeed
from l0keras.connections.positions import gather
from l0keras.connections.positions import scatter
from l0keras.connections.rewire import rewire
from l0keras.connections.rewire import rewire_crowded
from l0keras.connections.segments import Groups

# A variable, how many entries it has and where they start in the pool; how
# many slots it starts with, where these start; how likely a new connection
# falls into it; and how its positions are drawn, as a row and a column.
Member = collections.namedtuple(
    "Member", "variable size base count start share rows columns"
)

# Above this share of active connections most proposals would be refused, and
# up to this size any way of drawing is fast enough.
_CROWDED_SHARE = 0.5
_CROWDED_SIZE = 128
# Enough proposals at one go for one connection in 8, of many for one in 64.
_TURNOVER = (8, 64)
_MANY = 1024


def is_crowded(share, size):
    """Whether new positions are drawn by sorting instead of proposing."""
    return share > _CROWDED_SHARE or size <= _CROWDED_SIZE


def joined(counted, budget):
    """Which variables are rewired together.

    Args:
        counted: a list of pairs of a variable and its number of connections.
        budget: `"layer"` or `"global"`.

    Returns:
        A list of lists of such pairs.
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
    groups = []
    joint, room = [], 0
    for (variable, count), size in zip(counted, sizes):
        if is_crowded(count / size, size):
            groups.append([(variable, count)])
        elif size <= room and joint[-1][0].dtype == variable.dtype:
            joint.append((variable, count))
            room -= size
        else:
            joint = [(variable, count)]
            room = MOST_POSITIONS - size
            groups.append(joint)
    return groups


def members_of(counted):
    """Members one behind the other, of pairs of a variable and a count."""
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
    """What pools have in common: drawing and proposing.

    Args:
        members: a list of `Member`.
        pinned: whether a slot stays in its variable. Otherwise only the
            number of all connections together is fixed.
        stream: what tells the draws of one pool from those of another.
    """

    # Whether there is room for a byte for each position.
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
        self._proposed = Groups(blocks)
        self._slots = Groups(counts)
        self._crowded = any(is_crowded(m.share, m.size) for m in members)

    def seed(self, seed, purpose, step):
        """The seed of the draws for one purpose of one step."""
        return StepSeed(seed + (2 * self._stream + purpose), step)

    def rewire(self, positions, dead, seed, step):
        """New positions for the dead slots, see `rewire`."""
        if self._crowded:
            draw = self.seed(seed, 1, step)
            weights = None if self.pinned else self._weights()
            return rewire_crowded(positions, dead, self.size, weights, draw)

        def propose(number):
            # After more than 64 rounds, draws of the next step come early.
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
        """Positions, uniform in their group, or by shares in all."""
        count = int(self._proposed.counts.sum())
        # Rows and columns apart: the rest of a division of 31 random bits is
        # as good as uniform only where the divisor is small.
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
    """How many proposals to make at a time, for so many slots."""
    few, many = (-(-count // turnover) for turnover in _TURNOVER)
    # Of more proposals than positions, most would come up twice.
    return min(max(32, min(few, _MANY), many), size // 4)


class MaskedPool(Pool):
    """Connections of arrays that are stored dense, with zeros between them.

    State: the positions of the active connections and the signs of all.
    """

    def build(self, optimizer, positions, signs):
        self.positions = optimizer.add_variable(
            (self.slots,), "zeros", "int32", name="positions"
        )
        self.signs = optimizer.add_variable(
            (self.size,), "zeros", "int8", name="signs"
        )
        # Where slots stay in their variable, counting those takes less time.
        self.rewired = optimizer.add_variable(
            (self.slots if self.pinned else len(self.members),),
            "zeros",
            "int32",
            name="rewired",
        )
        self.positions.assign(positions)
        self.signs.assign(signs)
        self.dtype = np.result_type(
            *[member.variable.dtype for member in self.members]
        ).name

    def read(self):
        """The signs and the weights of the slots."""
        signs = gather(self.signs, self.positions)
        return ops.cast(signs, self.dtype), self._gather(
            [member.variable for member in self.members]
        )

    def write(self, positions, weights, dead):
        self._count(positions, dead)
        self.positions.assign(positions)
        arrays = self._scatter(positions, weights)
        for member, array in zip(self.members, arrays):
            member.variable.assign(array)

    def mask(self, arrays):
        """The arrays, one for each member, with 0 where there is no slot."""
        arrays = [ops.convert_to_tensor(array) for array in arrays]
        return self._scatter(self.positions, self._gather(arrays))

    def _local(self, positions):
        """Of each member its own positions."""
        bases = self._slots.spread(self._of_members("base"))
        return self._split(positions - bases)

    def _split(self, values):
        if len(self.members) == 1:
            return [values]
        return ops.split(values, [int(m.start) for m in self.members[1:]])

    def _gather(self, arrays):
        flat = [ops.reshape(array, (-1,)) for array in arrays]
        flat = [ops.cast(array, self.dtype) for array in flat]
        if not self.pinned:
            return gather(ops.concatenate(flat), self.positions)
        local = self._local(ops.convert_to_tensor(self.positions))
        parts = [gather(array, own) for array, own in zip(flat, local)]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts)

    def _scatter(self, positions, values):
        if self.pinned:
            local, values = self._local(positions), self._split(values)
            parts = [
                scatter(own, part, member.size)
                for own, part, member in zip(local, values, self.members)
            ]
        else:
            joint = scatter(positions, values, self.size)
            parts = [joint[m.base : m.base + m.size] for m in self.members]
        return [
            ops.cast(
                ops.reshape(part, member.variable.shape), member.variable.dtype
            )
            for part, member in zip(parts, self.members)
        ]

    def _count(self, positions, dead):
        dead = ops.cast(dead, "int32")
        if not self.pinned:
            edges = np.array([m.base for m in self.members[1:]], "int32")
            member = ops.searchsorted(edges, positions, side="right")
            dead = ops.segment_sum(dead, member, len(self.members))
        self.rewired.assign_add(dead)

    def rewired_of(self, index):
        rewired = ops.convert_to_numpy(self.rewired)
        if not self.pinned:
            return int(rewired[index])
        member = self.members[index]
        return int(rewired[member.start : member.start + member.count].sum())

    def positions_of(self, index):
        """Sorted, as an array of the variable's own positions."""
        member = self.members[index]
        positions = np.sort(ops.convert_to_numpy(self.positions)) - member.base
        return positions[(positions >= 0) & (positions < member.size)]
