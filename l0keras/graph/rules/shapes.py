import numpy as np
from keras import ops

from l0keras.graph.rules.rule import Rule


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


class Take(Rule):
    """`ops.take` of fixed channels."""

    with_arguments = True
    rounds = False
    homogeneous = True

    def refuses(self, node):
        value = node.input
        if (
            node.layer.axis is None
            or node.layer.axis % value.rank != value.axis
        ):
            return "takes along another axis than that of the channels"
        if len(node.args) != 2 or node.kwargs or np.ndim(node.args[1]) != 1:
            return "takes by other than a list of indices"
        return None

    def sources(self, node):
        indices = ops.convert_to_numpy(node.args[1]).astype(int)
        return [indices % node.input.size]

    def constants(self, node):
        return node.input.constants[self.sources(node)[0]]

    def creates(self, node):
        return True

    def call(self, node, layer, args, kwargs):
        got = node.got()
        indices = np.searchsorted(got, self.sources(node)[0][node.made])
        if np.array_equal(indices, np.arange(len(got))):
            return args[0]
        return layer(args[0], indices.tolist())
