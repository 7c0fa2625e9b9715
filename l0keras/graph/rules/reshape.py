import functools
import math

import keras
import numpy as np

from l0keras import activations
from l0keras.graph.rules.rule import OtherAxis
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import channel_axis

_TORN = "reshapes the channels"


class Relation:
    """Which channels in front of a reshape and behind it share numbers.

    Attributes:
        pairs: two integer arrays, the channels in front and behind of each
            pair that shares a number.
        inputs, outputs: integer arrays, for each channel the number of the
            set of channels, on both sides, that have to go together. What is
            left of the tensors are then the same numbers in the same order.
        sets: how many sets there are.
    """

    def __init__(self, inputs, outputs, size, new_size):
        pairs = np.unique(inputs * new_size + outputs)
        left, right = self.pairs = np.divmod(pairs, new_size)
        labels, before = np.arange(size), None
        while not np.array_equal(labels, before):
            before = labels
            behind = np.full(new_size, size)
            np.minimum.at(behind, right, labels[left])
            labels = labels.copy()
            np.minimum.at(labels, left, behind[right])
        found, self.inputs = np.unique(labels, return_inverse=True)
        self.outputs = np.searchsorted(found, behind)
        self.sets = len(found)


@functools.lru_cache(maxsize=64)
def _relate(shape, axis, new_shape, new_axis):
    """The `Relation` of a reshape, `None` where sizes are not known."""
    if new_axis < 1 or (new_shape[0] is not None and shape[0] is None):
        return None
    for start in range(axis, 0, -1):
        for new_start in range(new_axis, 0, -1):
            end, new_end = shape[start:], new_shape[new_start:]
            if None in end or None in new_end:
                continue
            if math.prod(end) == math.prod(new_end):
                return Relation(
                    _channels(end, axis - start),
                    _channels(new_end, new_axis - new_start),
                    shape[axis],
                    new_shape[new_axis],
                )
    return None


def _channels(shape, axis):
    """The channel of each number of a tensor, in order."""
    index = [1] * len(shape)
    index[axis] = -1
    channels = np.arange(shape[axis]).reshape(index)
    return np.broadcast_to(channels, shape).reshape(-1)


class _Reshape(Rule):
    homogeneous = True

    def _relation(self, node):
        value, result = node.input, node.output
        return _relate(
            value.shape, value.axis, result.shape, self.output_axis(node)
        )

    def output_axis(self, node):
        value, shape = node.input, node.output.shape
        behind = value.shape[value.axis + 1 :]
        places = []
        for axis in range(1, len(shape)):
            rest = shape[axis + 1 :]
            if shape[axis] != value.size or None in (*rest, *behind):
                continue
            if math.prod(rest) == math.prod(behind):
                # Each channel stays one channel.
                places.append(axis)
        if not places or node.output.axis in places:
            # Of several axes of size 1, the usual one.
            return node.output.axis
        return places[0]

    def shrink(self, node):
        name = (
            "target_shape" if "target_shape" in vars(node.layer) else "newshape"
        )
        shape = list(getattr(node.layer, name))
        axis = node.output.axis - (name == "target_shape")
        if shape[axis] != -1:
            shape[axis] = len(node.output.kept)
        return {name: tuple(shape)}, {}


class _Regrouping(_Reshape):
    """A reshape that makes a channel out of several, such as (F,) -> (h, w, c).

    All channels that are part of one have to go together.
    """

    # So that sets are whole, what else others need is left out in front.
    shrinks_with_input = True

    def refuses(self, node):
        relation = self._relation(node)
        if relation is None or relation.sets == 1:
            return _TORN
        if not node.input.selectable:
            return "regroups channels, and its input carries a mask"
        return None

    def sources(self, node):
        # One of several.
        relation = self._relation(node)
        first = np.unique(relation.inputs, return_index=True)[1]
        return [first[relation.outputs]]

    def constants(self, node):
        return self._common(node, node.input.constants, 0)

    def _common(self, node, numbers, side):
        """What all channels that a channel shares numbers with agree on."""
        pairs = self._relation(node).pairs
        own, other = pairs[1 - side], pairs[side]
        common = np.empty(own.max() + 1)
        common[own] = numbers[other]
        common[own[common[own] != numbers[other]]] = np.nan
        return common

    def makes(self, node, live):
        relation = self._relation(node)
        alive = np.zeros(relation.sets, bool)
        alive[relation.outputs[live]] = True
        return alive[relation.outputs]

    def ties(self, node):
        relation = self._relation(node)
        first = np.unique(relation.outputs, return_index=True)[1]
        return [
            (position, np.arange(len(sets)), -1, first[sets])
            for position, sets in ((0, relation.inputs), (-1, relation.outputs))
        ]

    def takes_whole_sets(self, node):
        return True

    def reads(self, node, made):
        relation = self._relation(node)
        return [np.isin(relation.inputs, relation.outputs[made])]

    def keeps(self, node):
        relation = self._relation(node)
        got = relation.inputs[node.got()]
        return np.flatnonzero(np.isin(relation.outputs, got))

    def scale_forwards(self, node, scale):
        outer = self._common(node, scale, 0)
        return None if np.any(np.isnan(outer)) else outer

    def scale_backwards(self, node, scale):
        inner = self._common(node, scale, 1)
        return None if np.any(np.isnan(inner)) else inner


class Reshape(_Reshape):
    """`Reshape`, the layer and the op, where a channel is made of one.

    Such as one that flattens positions, or positions and channels.
    """

    alternatives = (_Regrouping(),)

    def refuses(self, node):
        relation = self._relation(node)
        if relation is None or relation.sets < node.input.size:
            return _TORN
        return None

    def sources(self, node):
        return [self._relation(node).outputs]

    def constants(self, node):
        return node.input.constants[self.sources(node)[0]]


class _Folded(_Regrouping):
    """What makes channel c of C out of c, C + c, 2 C + c, ..."""

    def _folds(self, node):
        """How many channels make one."""
        raise NotImplementedError

    def _relation(self, node):
        channels = np.arange(node.input.size)
        size = len(channels) // self._folds(node)
        return Relation(channels, channels % size, len(channels), size)

    def _axis(self, node):
        """The axis in which the layer expects its channels."""
        return channel_axis(node.layer, node.input)

    def refuses(self, node):
        if node.input.axis != self._axis(node):
            return OtherAxis("moves along the axis of the channels")
        if not node.input.selectable:
            return "regroups channels, and its input carries a mask"
        return None

    def output_axis(self, node):
        return node.input.axis

    def shrink(self, node):
        return {}, {}


class DepthToSpace(_Folded):
    """`ops.depth_to_space`."""

    def _folds(self, node):
        return node.layer.block_size**2


class Glu(_Folded):
    """`ops.glu`: one half of the channels times the sigmoid of the other."""

    homogeneous = False

    def _folds(self, node):
        return 2

    def _axis(self, node):
        return node.layer.axis % node.input.rank

    def constants(self, node):
        factor, gate = np.split(node.input.constants, 2)
        product = factor * activations.apply(keras.activations.sigmoid, gate)
        return np.where(factor == 0, 0.0, product)


class SpaceToDepth(Rule):
    """`ops.space_to_depth`: the inverse."""

    per_call = True
    homogeneous = True

    def refuses(self, node):
        if node.input.axis != channel_axis(node.layer, node.input):
            return OtherAxis("moves along the axis of the channels")
        return None

    def sources(self, node):
        return [np.arange(node.output.size) % node.input.size]

    def constants(self, node):
        return node.input.constants[self.sources(node)[0]]


class Patches(SpaceToDepth):
    """`ops.image.extract_patches`, maybe with zeros around."""

    def constants(self, node):
        constants = super().constants(node)
        if node.layer.padding == "valid":
            return constants
        return np.where(constants == 0, constants, np.nan)


class Moved(Rule):
    """Layers and ops that give the axis of the channels another place."""

    homogeneous = True

    def constants(self, node):
        return node.input.constants


class Permute(Moved):
    """`Permute`, `transpose`, `swapaxes` and `moveaxis`."""

    per_call = True

    def _order(self, node):
        """For each axis of the output the axis of the input."""
        layer, axes = node.layer, np.arange(node.input.rank)
        if hasattr(layer, "dims"):
            return [0, *layer.dims]
        if hasattr(layer, "axis1"):
            both = [layer.axis1, layer.axis2]
            axes[both] = axes[both[::-1]]
            return axes.tolist()
        if hasattr(layer, "destination"):
            # A tensor of which each axis has a size of its own.
            probe = np.broadcast_to(0, axes + 1)
            moved = np.moveaxis(probe, layer.source, layer.destination)
            return [size - 1 for size in moved.shape]
        if layer.axes is None:
            return axes[::-1].tolist()
        return [axis % len(axes) for axis in layer.axes]

    def refuses(self, node):
        if self._order(node)[0] != 0:
            return "moves the batch"
        return None

    def output_axis(self, node):
        return self._order(node).index(node.input.axis)


class ExpandDims(Moved):
    """`ops.expand_dims`."""

    per_call = True

    def _added(self, node):
        axis = node.layer.axis
        axes = [axis] if isinstance(axis, int) else axis
        return {one % node.output.rank for one in axes}

    def refuses(self, node):
        return "moves the batch" if 0 in self._added(node) else None

    def output_axis(self, node):
        added = self._added(node)
        left = [a for a in range(node.output.rank) if a not in added]
        return left[node.input.axis]


class Squeeze(Moved):
    """`ops.squeeze`."""

    def _gone(self, node):
        axis, shape = node.layer.axis, node.input.shape
        if axis is None:
            return {a for a, size in enumerate(shape) if size == 1}
        axes = [axis] if isinstance(axis, int) else axis
        return {one % len(shape) for one in axes}

    def refuses(self, node):
        if self._gone(node) & {0, node.input.axis}:
            return "takes away the axis of the batch or of the channels"
        return None

    def output_axis(self, node):
        axis = node.input.axis
        return axis - sum(gone < axis for gone in self._gone(node))

    def shrink(self, node):
        # Not all axes of size 1: there may be one channel left.
        return {"axis": sorted(self._gone(node))}, {}


class RepeatVector(Moved):
    """`RepeatVector`, which puts an axis between batch and channels."""

    per_call = True

    def output_axis(self, node):
        return 2
