import numpy as np
from keras import ops

from l0keras.connections.pool import Pool
from l0keras.connections.positions import gather
from l0keras.connections.positions import scatter


class MaskedPool(Pool):
    """A pool of dense arrays, with zeros where no connection is active.

    Its state are the positions of the active connections and the signs of
    all potential ones.
    """

    def build(self, optimizer, positions, signs):
        """Makes the state.

        Args:
            optimizer: the `keras.optimizers.Optimizer` that keeps the state.
            positions: int32 `(slots,)`, those of the active connections.
            signs: int8 `(size,)`, those of all entries of the pool.
        """
        self.positions = optimizer.add_variable(
            (self.slots,), "zeros", "int32", name="positions"
        )
        self.signs = optimizer.add_variable(
            (self.size,), "zeros", "int8", name="signs"
        )
        # For pinned slots it takes less time to count by slot.
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
        """The signs and the weights of the slots, both `(slots,)`."""
        signs = gather(self.signs, self.positions)
        return ops.cast(signs, self.dtype), self._gather(
            [member.variable for member in self.members]
        )

    def write(self, positions, weights, dead):
        """Moves the slots and sets their weights; all other entries are 0.

        Args:
            positions: int32 `(slots,)`, the new ones.
            weights: `(slots,)`.
            dead: bool `(slots,)`, the slots with another connection now.
        """
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
        """The positions of each member in its own variable."""
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
        """The number of replaced connections of a member."""
        rewired = ops.convert_to_numpy(self.rewired)
        if not self.pinned:
            return int(rewired[index])
        member = self.members[index]
        return int(rewired[member.start : member.start + member.count].sum())

    def positions_of(self, index):
        """The positions of a member in its own variable, sorted."""
        member = self.members[index]
        positions = np.sort(ops.convert_to_numpy(self.positions)) - member.base
        return positions[(positions >= 0) & (positions < member.size)]

    def mask_of(self, index):
        """Which entries of a member are active, a boolean array."""
        member = self.members[index]
        mask = np.zeros(member.size, bool)
        mask[self.positions_of(index)] = True
        return mask.reshape(member.variable.shape)

    def are_positions(self, stored):
        """Whether an array has a distinct position in the pool for each slot.

        Args:
            stored: integers `(slots,)`.
        """
        inside = (stored >= 0) & (stored < self.size)
        return bool(inside.all()) and len(np.unique(stored)) == len(stored)
