import numpy as np
from keras import ops

from l0keras.graph.rules.rule import Rule


class Moved(Rule):
    """Layers and ops that give the axis of the channels another place."""

    homogeneous = True

    def constants(self, node):
        return node.input.constants


class Reshape(Moved):
    """`Reshape`, where each channel stays one channel, or all are flattened."""

    rounds = False

    def refuses(self, node):
        if self._axis(node) is None:
            return "reshapes the channels"
        return None

    def _axis(self, node):
        """Where the channels lie in the output, `None` if torn apart."""
        value, shape = node.input, node.output.shape
        behind = value.shape[value.axis + 1 :]
        if None in behind or shape[0] is not None and value.shape[0] is None:
            return None
        for axis in range(1, len(shape)):
            rest = shape[axis + 1 :]
            if None in rest or np.prod(rest) != np.prod(behind):
                continue
            if shape[axis] == value.size:
                return axis
        if len(shape) == 2 and None not in value.shape[1:]:
            # Other sizes would also move examples.
            if shape[1] == np.prod(value.shape[1:]):
                return 1
        return None

    def output_axis(self, node):
        return self._axis(node)

    def sources(self, node):
        size = node.output.size
        if size == node.input.size:
            return [np.arange(size)]
        shape = [1] * node.input.rank
        shape[node.input.axis] = -1
        channels = np.arange(node.input.size).reshape(shape)[0]
        full = np.broadcast_to(channels, node.input.shape[1:])
        return [full.reshape(-1)]

    def constants(self, node):
        return node.input.constants[self.sources(node)[0]]

    def shrink(self, node):
        name = (
            "target_shape" if "target_shape" in vars(node.layer) else "newshape"
        )
        shape = list(getattr(node.layer, name))
        axis = node.output.axis - (name == "target_shape")
        if shape[axis] != -1:
            shape[axis] = len(node.output.kept)
        return {name: tuple(shape)}, {}


class Permute(Moved):
    """`Permute`, the layer, and `transpose`, the op."""

    per_call = True

    def _order(self, node):
        if hasattr(node.layer, "dims"):
            return (0, *node.layer.dims)
        if node.layer.axes is None:
            return tuple(reversed(range(node.input.rank)))
        return tuple(axis % node.input.rank for axis in node.layer.axes)

    def refuses(self, node):
        if self._order(node)[0] != 0:
            return "moves the batch"
        return None

    def output_axis(self, node):
        return self._order(node).index(node.input.axis)


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
