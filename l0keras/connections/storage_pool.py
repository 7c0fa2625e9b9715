import math

import numpy as np
from keras import ops

from l0keras.connections.choose import storage_of
from l0keras.connections.initial import signs_of
from l0keras.connections.initial import values_of
from l0keras.connections.pools import Member
from l0keras.connections.pools import Pool
from l0keras.connections.positions import gather
from l0keras.connections.positions import signs_at
from l0keras.connections.positions import sorted_order


class StoragePool(Pool):
    """The connections of a variable that holds nothing else.

    Positions and signs are the state of the layer that has the values. Its
    slots are in the order of the positions, so the values and all that
    belongs to them move when connections are replaced.
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
            optimizer: whose state it is.
            companions: variables of an entry for each connection, which
                moves with it.
        """
        self._companions = companions
        self.rewired = optimizer.add_variable(
            (1,), "zeros", "int32", name="rewired"
        )
        # Another optimizer may have turned some around.
        values = values_of(self.members[0].variable)
        self.signs.assign(signs_of(values, values_of(self.signs)))

    def read(self):
        values = ops.convert_to_tensor(self.members[0].variable)
        return ops.cast(self.signs, self.dtype), values

    def write(self, positions, weights, dead):
        count = ops.sum(ops.cast(dead, "int32"))
        self.rewired.assign_add(ops.expand_dims(count, 0))
        signs = ops.cast(signs_at(positions, self._key), "int8")
        signs = ops.where(dead, signs, ops.convert_to_tensor(self.signs))
        order = sorted_order(positions, dead)
        self.positions.assign(gather(positions, order))
        self.signs.assign(gather(signs, order))
        self.members[0].variable.assign(gather(weights, order))
        # What an optimizer knows of a connection dies with it.
        for variable in self._companions:
            zero = ops.zeros((), variable.dtype)
            kept = ops.where(dead, zero, ops.convert_to_tensor(variable))
            variable.assign(gather(kept, order))

    def positions_of(self, index):
        return np.array(ops.convert_to_numpy(self.positions))

    def rewired_of(self, index):
        return int(ops.convert_to_numpy(self.rewired)[0])
