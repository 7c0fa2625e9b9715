import math

import keras
import numpy as np
from keras import ops
from keras import random

from l0keras.connections.initial_connections import signs_of
from l0keras.connections.initial_connections import values_of
from l0keras.connections.pool import Member
from l0keras.connections.pool import Pool
from l0keras.connections.positions import gather
from l0keras.connections.positions import on_host
from l0keras.connections.positions import signs_at
from l0keras.connections.positions import sorted_order
from l0keras.connections.rewire import rewire_ascending
from l0keras.connections.rewire import rewire_on_host
from l0keras.connections.sparse_variables import storage_of


class StoragePool(Pool):
    """The pool of one variable in sparse storage: it has active values only.

    The layer keeps the positions and the signs. Slots are in the order of
    the positions, so values, signs and moments move when connections are
    replaced.
    """

    counts_positions = False

    def __init__(self, values, stream):
        storage = storage_of(values)
        rows, columns = storage.shape
        size = math.prod(storage.shape)
        count = values.shape[0]
        share = count / size
        member = Member(values, size, 0, count, 0, share, rows, columns)
        super().__init__([member], True, stream)
        self.positions = storage.positions
        self.signs = storage.signs
        self._key = storage.key
        self.dtype = values.dtype

    def build(self, optimizer, companions):
        """Makes the state.

        Args:
            optimizer: the `keras.optimizers.Optimizer` that keeps the state.
            companions: variables with an entry for each connection, such as
                its moments. The entries move with the connections.
        """
        self._companions = companions
        self.rewired = optimizer.add_variable(
            (1,), "zeros", "int32", name="rewired"
        )
        # Training by another optimizer may have changed the sign of values.
        values = values_of(self.members[0].variable)
        self.signs.assign(signs_of(values, values_of(self.signs)))

    def rewire(self, positions, dead, seed, step):
        """Gives the dead slots new positions, see the function `rewire`."""
        if self._crowded:
            return super().rewire(positions, dead, seed, step)
        if on_host(positions, dead, seed, step):
            rng = np.random.default_rng([int(seed), self._stream, int(step)])
            positions, dead = np.asarray(positions), np.asarray(dead)
            found = rewire_on_host(positions, dead, self.size, rng)
            return ops.convert_to_tensor(found)
        if keras.backend.backend() != "tensorflow":
            return super().rewire(positions, dead, seed, step)
        member = self.members[0]

        def propose(number, count):
            draw = self.seed(seed, 1, step * 64 + number)
            draws = random.randint((2, count), 0, 2**31 - 1, "int32", draw)
            row, column = draws[0] % member.rows, draws[1] % member.columns
            return row * member.columns + column

        return rewire_ascending(positions, dead, member.share, propose)

    def read(self):
        """The signs and the values of the slots, both `(slots,)`."""
        values = ops.convert_to_tensor(self.members[0].variable)
        return ops.cast(self.signs, self.dtype), values

    def write(self, positions, weights, dead):
        """Moves the slots and sets their values, see `MaskedPool`."""
        count = ops.sum(ops.cast(dead, "int32"))
        self.rewired.assign_add(ops.expand_dims(count, 0))
        signs = self._signs(positions, dead)
        order = sorted_order(positions, dead)
        self.positions.assign(gather(positions, order))
        self.signs.assign(gather(signs, order))
        self.members[0].variable.assign(gather(weights, order))
        # The moments of a connection die with it.
        for variable in self._companions:
            zero = ops.zeros((), variable.dtype)
            kept = ops.where(dead, zero, ops.convert_to_tensor(variable))
            variable.assign(gather(kept, order))

    def _signs(self, positions, dead):
        """The signs of connections, some of which are new."""
        signs = ops.convert_to_tensor(self.signs)
        if keras.backend.backend() != "tensorflow":
            new = ops.cast(signs_at(positions, self._key), "int8")
            return ops.where(dead, new, signs)
        import tensorflow as tf

        # Few are new, and a sign takes many operations.
        slots = tf.where(dead)
        new = signs_at(tf.gather(positions, slots[:, 0]), self._key)
        return tf.tensor_scatter_nd_update(signs, slots, tf.cast(new, "int8"))

    def positions_of(self, index):
        """The positions of the connections, which ascend."""
        return np.array(ops.convert_to_numpy(self.positions))

    def rewired_of(self, index):
        """The number of replaced connections."""
        return int(ops.convert_to_numpy(self.rewired)[0])

    def mask_of(self, index):
        """`None`: a mask would be as large as the dense array."""
        return None


def companions_of(optimizer, variables, variable):
    """The variables of an optimizer with an entry for each of a variable.

    Args:
        optimizer: a built `keras.optimizers.Optimizer`.
        variables: the trainable variables that it was built with.
        variable: one of them.

    Returns:
        A list of variables of the same shape, such as moments.
    """
    # Keras names moments after the path of the variable. Layers of the same
    # name in nested models have the same path.
    paths = [one.path.replace("/", "_") for one in variables]
    own = next(i for i, one in enumerate(variables) if one is variable)
    rank = paths[:own].count(paths[own])
    by_name = {}
    for other in optimizer.variables:
        owners = [path for path in paths if other.name.startswith(f"{path}_")]
        if owners and max(owners, key=len) == paths[own]:
            by_name.setdefault(other.name, []).append(other)
    return [
        others[rank]
        for others in by_name.values()
        if tuple(others[rank].shape) == tuple(variable.shape)
    ]
