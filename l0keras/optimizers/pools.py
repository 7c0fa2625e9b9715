"""The connections of one or more arrays, as slots of one vector.

A pool joins the arrays that are rewired together, so that a step has few and
short operations: everything is done on vectors of one entry per connection.
"""

import collections
import math

import numpy as np
from keras import ops
from keras import random

from l0keras.optimizers.rewire import rewire
from l0keras.optimizers.rewire import rewire_crowded
from l0keras.positions import StepSeed
from l0keras.positions import gather
from l0keras.positions import scatter

# A variable, how many entries it has and where they start in the pool; how
# many slots it starts with, where these start; how likely a new connection
# falls into it; and how its positions are drawn, as a row and a column.
Member = collections.namedtuple(
    "Member", "variable size base count start share rows columns"
)

# Above this share of active connections most proposals would be refused.
_CROWDED = 0.5
# Enough proposals for one connection in so many at one go.
_TURNOVER = 16


def is_crowded(share):
    return share > _CROWDED


def members_of(counted):
    """Members one behind the other, of pairs of a variable and a count."""
    members = []
    base = start = 0
    for variable, count, share in counted:
        size = math.prod(variable.shape)
        columns = variable.shape[-1]
        rows = size // columns
        members.append(
            Member(variable, size, base, count, start, share, rows, columns)
        )
        base += size
        start += count
    return members


class Pool:
    """What pools have in common: drawing, proposing and counting.

    Args:
        members: a list of `Member`.
        pinned: whether a slot stays in its variable. Otherwise only the
            number of all connections together is fixed.
        stream: what tells the draws of one pool from those of another.
    """

    def __init__(self, members, pinned, stream):
        self.members = members
        self._pinned = pinned or len(members) == 1
        self._stream = stream
        self.slots = sum(member.count for member in members)
        self.size = sum(member.size for member in members)
        self._groups = None
        if self._pinned and len(members) > 1:
            self._groups = np.repeat(
                np.arange(len(members), dtype="int32"),
                [member.count for member in members],
            )
        self._starts = np.array([m.start for m in members], "int32")
        block = max(member.count for member in members)
        if not self._pinned:
            block = self.slots
        self._block = max(32, -(-block // _TURNOVER))
        crowded = [is_crowded(member.share) for member in members]
        self._crowded = any(crowded)

    def seed(self, seed, purpose, step):
        """The seed of the draws for one purpose of one step."""
        return StepSeed(seed + (2 * self._stream + purpose), step)

    def rewire(self, positions, dead, seed, step):
        """New positions for the dead slots, see `rewire`."""
        if self._crowded:
            weights = None
            if not self._pinned:
                weights = np.repeat(
                    np.array([m.share for m in self.members], "float32"),
                    [member.size for member in self.members],
                )
            draw = self.seed(seed, 1, step)
            return rewire_crowded(positions, dead, self.size, weights, draw)

        def propose(number):
            # More than 64 rounds, and draws of the next step come back.
            draw = self.seed(seed, 1, step * 64 + number)
            return self._propose(draw)

        return rewire(positions, dead, self._groups, self._starts, propose)

    def _propose(self, seed):
        """Uniform positions, `(groups, block)`, or by shares `(1, block)`."""
        groups = len(self.members) if self._pinned else 1
        shape = (groups, self._block)
        # Rows and columns apart: the rest of a division of 31 random bits is
        # as good as uniform only where the divisor is small.
        draws = random.randint((3, *shape), 0, 2**31 - 1, "int32", seed)

        def of(field):
            values = [getattr(member, field) for member in self.members]
            values = np.array(values, "int32")
            if self._pinned:
                return values[:, None]
            return gather(values, member)

        if not self._pinned:
            weights = np.array(
                [m.share * m.size for m in self.members], "float64"
            )
            edges = np.cumsum(weights / weights.sum())[:-1] * (2**31 - 1)
            edges = ops.convert_to_tensor(edges.astype("int32"))
            member = ops.searchsorted(
                edges, ops.reshape(draws[2], (-1,)), side="right"
            )
            member = ops.reshape(ops.cast(member, "int32"), shape)
        columns = of("columns")
        row = ops.mod(draws[0], of("rows"))
        return of("base") + row * columns + ops.mod(draws[1], columns)


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
        self.rewired = optimizer.add_variable(
            (len(self.members),), "zeros", "int32", name="rewired"
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

    def write(self, positions, weights, dead, companions):
        self._count(positions, dead)
        self.positions.assign(positions)
        arrays = self._scatter(positions, weights)
        for member, array in zip(self.members, arrays):
            member.variable.assign(array)

    def mask(self, arrays):
        """The arrays, one for each member, with 0 where there is no slot."""
        arrays = [ops.convert_to_tensor(array) for array in arrays]
        return self._scatter(self.positions, self._gather(arrays))

    def _local(self, positions, member):
        end = member.start + member.count
        return positions[member.start : end] - member.base

    def _gather(self, arrays):
        flat = [ops.reshape(array, (-1,)) for array in arrays]
        flat = [ops.cast(array, self.dtype) for array in flat]
        if not self._pinned:
            return gather(ops.concatenate(flat), self.positions)
        positions = ops.convert_to_tensor(self.positions)
        parts = [
            gather(array, self._local(positions, member))
            for array, member in zip(flat, self.members)
        ]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts)

    def _scatter(self, positions, values):
        if self._pinned:
            parts = [
                scatter(
                    self._local(positions, member),
                    values[member.start : member.start + member.count],
                    member.size,
                )
                for member in self.members
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
        counts = []
        for member in self.members:
            if self._pinned:
                part = dead[member.start : member.start + member.count]
            else:
                inside = ops.logical_and(
                    positions >= member.base,
                    positions < member.base + member.size,
                )
                part = dead * ops.cast(inside, "int32")
            counts.append(ops.sum(part))
        self.rewired.assign(self.rewired + ops.stack(counts))

    def positions_of(self, index):
        """Sorted, as an array of the variable's own positions."""
        member = self.members[index]
        positions = np.sort(ops.convert_to_numpy(self.positions)) - member.base
        return positions[(positions >= 0) & (positions < member.size)]
