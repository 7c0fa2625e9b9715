import dataclasses
import math
from typing import Any

from keras import ops


@dataclasses.dataclass(frozen=True)
class GatedWeight:
    """A weight of a layer and where the gates lie on it.

    Args:
        weight: a variable or tensor.
        axes: the axes along which the gates differ, in the order in which
            the gates are numbered; none for a weight without gates.
        view: a shape of the same size in which the gates have axes of their
            own, where those of the weight itself do not do.
        scaled: whether a gate multiplies the weight. Otherwise it stands in
            front of another weight, and the weight is only of no use once
            the gate is closed.
    """

    weight: Any
    axes: tuple = ()
    view: tuple = None
    scaled: bool = True

    def __post_init__(self):
        view = tuple(self.view or self.weight.shape)
        object.__setattr__(self, "view", view)
        axes = tuple(axis % len(view) for axis in self.axes)
        object.__setattr__(self, "axes", axes)

    @property
    def sizes(self):
        """How many gates there are along each of `axes`."""
        return tuple(self.view[axis] for axis in self.axes)

    @property
    def group_size(self):
        """How many entries one gate closes."""
        if not self.axes:
            return 0
        return math.prod(self.view) // math.prod(self.sizes)

    def scale(self, gates):
        """The weight that the layer computes with."""
        if not self.axes or not self.scaled:
            return self.weight
        return self._times(gates)

    def bake(self, gates):
        """The weight of a plain layer: all zeros where a gate is closed."""
        if not self.axes:
            return ops.convert_to_tensor(self.weight)
        if not self.scaled:
            gates = ops.cast(gates != 0, gates.dtype)
        return self._times(gates)

    def squared_norms(self):
        """The squared norm of each gate's entries; a scalar without gates."""
        squares = ops.square(self.weight)
        if not self.axes:
            return ops.sum(squares)
        others = [i for i in range(len(self.view)) if i not in self.axes]
        norms = ops.sum(ops.reshape(squares, self.view), axis=others)
        ascending = sorted(self.axes)
        return ops.transpose(norms, [ascending.index(i) for i in self.axes])

    def _times(self, gates):
        ascending = sorted(self.axes)
        gates = ops.reshape(gates, self.sizes)
        if list(self.axes) != ascending:
            order = [self.axes.index(axis) for axis in ascending]
            gates = ops.transpose(gates, order)
        shape = [
            size if axis in self.axes else 1
            for axis, size in enumerate(self.view)
        ]
        gates = ops.reshape(gates, shape)
        own = tuple(self.weight.shape)
        if self.view == own:
            return ops.multiply(self.weight, gates)
        weight = ops.reshape(self.weight, self.view)
        return ops.reshape(ops.multiply(weight, gates), own)
