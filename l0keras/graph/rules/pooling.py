import numpy as np

from l0keras.graph.rules import reduce
from l0keras.graph.rules.rule import OtherAxis
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import channel_axis


class Positions(Rule):
    """Layers that mix or move positions within each channel.

    They map a channel that is constant to the same constant.
    """

    per_call = True
    homogeneous = True

    def refuses(self, node):
        if node.input.axis != channel_axis(node.layer, node.input):
            return OtherAxis("moves along the axis of the channels")
        return None

    def constants(self, node):
        return node.input.constants


class CenterCrop(Positions):
    """`CenterCrop`, in training too; it scales up what is too small."""

    ignores_training = True


class Upsampling(Positions):
    """Upsampling: not every interpolation has weights that sum to 1."""

    def constants(self, node):
        constants = node.input.constants
        method = getattr(node.layer, "interpolation", "nearest")
        if method in ("nearest", "bilinear"):
            return constants
        return np.where(constants == 0, constants, np.nan)


class Resize(Upsampling):
    """`Resizing` and `ops.image.resize`, which may pad too."""

    ignores_training = True

    def constants(self, node):
        constants = super().constants(node)
        if node.layer.pad_to_aspect_ratio:
            filling = node.layer.fill_value
            return np.where(constants == filling, constants, np.nan)
        return constants

    def is_homogeneous(self, node):
        return not (node.layer.pad_to_aspect_ratio and node.layer.fill_value)


class GlobalPooling(Positions):
    def output_axis(self, node):
        return node.input.axis if node.layer.keepdims else 1


class _OverChannels:
    """Where a layer takes an axis of positions for that of the channels."""

    def axes(self, node):
        own = {0, channel_axis(node.layer, node.input)}
        return set(range(node.input.rank)) - own

    def refuses(self, node):
        if not node.input.selectable:
            return "pools over the channels, and its input carries a mask"
        return None


class _AverageOfChannels(_OverChannels, reduce.MeanOfChannels):
    pass


class _MaximumOfChannels(_OverChannels, reduce.MaximumOfChannels):
    pass


class GlobalAveragePooling(GlobalPooling):
    alternatives = (_AverageOfChannels(),)


class GlobalMaxPooling(GlobalPooling):
    alternatives = (_MaximumOfChannels(),)


class ZeroPadding(Positions):
    """Zero padding: only a constant of 0 stays a constant."""

    def constants(self, node):
        constants = node.input.constants
        return np.where(constants == 0, constants, np.nan)


class Flatten(Rule):
    """`Flatten`: each position of each channel becomes a channel."""

    per_call = True
    homogeneous = True

    def refuses(self, node):
        if None in node.input.shape[1:]:
            return "flattens an axis of unknown size"
        return None

    def output_axis(self, node):
        return 1

    def sources(self, node):
        shape, axis = node.input.shape[1:], node.input.axis - 1
        index = [1] * len(shape)
        index[axis] = -1
        channels = np.arange(node.input.size).reshape(index)
        channels = np.broadcast_to(channels, shape)
        if node.layer.data_format == "channels_first":
            channels = np.moveaxis(channels, 0, -1)
        return [channels.reshape(-1)]

    def constants(self, node):
        return node.input.constants[self.sources(node)[0]]
