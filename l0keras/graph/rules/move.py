import numpy as np

from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import axes_of


class _Copy(Rule):
    """Ops that put each number somewhere else, maybe several times."""

    per_call = True
    homogeneous = True

    def constants(self, node):
        return node.input.constants[self.sources(node)[0]]


class Flip(_Copy):
    """`ops.flip`, of positions or channels."""

    def refuses(self, node):
        if node.layer.axis is None:
            return "flips the batch too"
        return None

    def sources(self, node):
        channels = np.arange(node.input.size)
        if node.input.axis in axes_of(node, node.layer.axis):
            channels = channels[::-1]
        return [channels]


class Roll(_Copy):
    """`ops.roll` of positions."""

    def refuses(self, node):
        axis = node.layer.axis
        if axis is None or node.input.axis in axes_of(node, axis):
            return "rolls the channels"
        return None


class Cumulative(Rule):
    """`ops.cumprod` of positions, one after the other."""

    per_call = True
    # The numbers of which a cumulated constant stays that constant.
    fixpoints = (0.0, 1.0)

    def refuses(self, node):
        axis = node.layer.axis
        if axis is None or 0 in axes_of(node, axis):
            return "cumulates over the batch"
        if node.input.axis in axes_of(node, axis):
            return "cumulates over the channels"
        return None

    def constants(self, node):
        constants = node.input.constants
        same = np.isin(constants, self.fixpoints)
        return np.where(same, constants, np.nan)


class CumulativeSum(Cumulative):
    fixpoints = (0.0,)

    def is_homogeneous(self, node):
        return "float" in node.output.tensor.dtype


class Repeat(_Copy):
    """`ops.repeat`, of positions or channels."""

    def refuses(self, node):
        layer = node.layer
        if layer.axis is None:
            return "repeats the entries of the flattened tensor"
        if np.ndim(layer.repeats) and self._along_channels(node):
            return "repeats some channels more often than others"
        return None

    def _along_channels(self, node):
        return node.input.axis in axes_of(node, node.layer.axis)

    def sources(self, node):
        channels = np.arange(node.input.size)
        if self._along_channels(node):
            channels = np.repeat(channels, node.layer.repeats)
        return [channels]


class Tile(_Copy):
    """`ops.tile`, of positions or channels."""

    def _repeats(self, node):
        repeats = np.ravel(node.layer.repeats).astype(int).tolist()
        return [1] * (node.input.rank - len(repeats)) + repeats

    def refuses(self, node):
        if len(self._repeats(node)) != node.input.rank:
            return "adds axes"
        return None

    def sources(self, node):
        count = self._repeats(node)[node.input.axis]
        return [np.tile(np.arange(node.input.size), count)]


class BroadcastTo(_Copy):
    """`ops.broadcast_to` a shape of the same rank."""

    per_call = False

    def refuses(self, node):
        return None if node.output.rank == node.input.rank else "adds axes"

    def sources(self, node):
        if node.input.size == 1:
            return [np.zeros(node.output.shape[node.input.axis], int)]
        return [np.arange(node.input.size)]

    def shrink(self, node):
        shape = list(node.layer.shape)
        shape[node.input.axis] = len(node.output.kept)
        return {"shape": tuple(shape)}, {}


class Pad(Rule):
    """`ops.pad` of positions, with zeros, another number or a reflection."""

    per_call = True
    with_arguments = True

    def _widths(self, node):
        widths = [tuple(width) for width in node.layer.pad_width]
        return widths * node.input.rank if len(widths) == 1 else widths

    def _filling(self, node):
        """The number that is put around, `None` for one that is there."""
        if node.layer.mode != "constant":
            return None
        given = [*node.args[1:], *node.kwargs.values()]
        return 0.0 if not given or given[0] is None else given[0]

    def refuses(self, node):
        widths = self._widths(node)
        if any(widths[0]) or any(widths[node.input.axis]):
            return "pads the batch or the channels"
        if node.layer.mode not in ("constant", "edge", "reflect", "symmetric"):
            return f"pads by mode '{node.layer.mode}'"
        if np.ndim(self._filling(node) or 0.0):
            return "pads by an array"
        return None

    def constants(self, node):
        constants, filling = node.input.constants, self._filling(node)
        if filling is None:
            return constants
        return np.where(constants == float(filling), constants, np.nan)

    def is_homogeneous(self, node):
        return not self._filling(node)
