import keras
import numpy as np
from keras import ops

from l0keras.graph.rules.rule import OtherAxis
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import along
from l0keras.graph.rules.rule import axes_of
from l0keras.graph.rules.rule import per_channel


class GroupNormalization(Rule):
    """`GroupNormalization`, in whole groups; several statistics mix in one."""

    shrinks_with_input = True

    def refuses(self, node):
        if node.layer.axis % node.input.rank != node.input.axis:
            return OtherAxis("normalizes another axis than the channels")
        if not node.input.selectable:
            return "is grouped and its input carries a mask or is sparse"
        return None

    def takes_whole_sets(self, node):
        return True

    def _by_group(self, node, array):
        return array.reshape(node.layer.groups, -1)

    def constants(self, node):
        # A group of which all channels are constant has known statistics.
        inputs = self._by_group(node, node.constants())
        slope = 1.0 / np.sqrt(
            inputs.var(axis=1, keepdims=True) + node.layer.epsilon
        )
        outputs = (
            slope * (inputs - inputs.mean(axis=1, keepdims=True))
        ).ravel()
        gamma = node.params.get("gamma", np.ones(node.output.size))
        outputs = np.where(gamma == 0, 0.0, outputs * gamma)
        return outputs + node.params.get("beta", 0.0)

    def makes(self, node, live):
        alive = np.any(self._by_group(node, live), axis=1)
        return np.repeat(alive, len(live) // node.layer.groups)

    def shrink(self, node):
        got = node.got()
        params = {name: array[got] for name, array in node.params.items()}
        size = node.output.size // node.layer.groups
        return {
            "groups": len(got) // size,
            "scale": "gamma" in params,
            "center": "beta" in params,
        }, params

    def ties(self, node):
        channels = np.arange(node.output.size)
        first = channels - channels % (len(channels) // node.layer.groups)
        return [(-1, channels, 0, channels), (0, channels, 0, first)]

    def weights(self, node):
        return [(len(node.params), [(-1, np.arange(node.output.size))])]

    def takes_output_scale(self, node):
        return True

    def scale_output(self, node, scale):
        node.params["gamma"] = node.params.get("gamma", 1.0) * scale
        if "beta" in node.params:
            node.params["beta"] = node.params["beta"] * scale


class _SumOfSquares(Rule):
    """Normalizations of channels to which one that is 0 adds nothing."""

    def reads_gated(self, node, position):
        return True

    def makes(self, node, live):
        varies = node.constants() != 0
        return live | varies

    def constants(self, node):
        constants = node.input.constants
        return np.where(constants == 0, constants, np.nan)


class RMSNormalization(_SumOfSquares):
    """`RMSNormalization` over the channels, which divides by
    sqrt(sum of squares / C + epsilon).

    If C' of C channels are left and the others are 0, that is sqrt(C' / C)
    times sqrt(sum of squares / C' + epsilon C / C').

    Args:
        epsilon, width: the names of the arguments of the constructor for
            epsilon and, if there is one, for the number of channels.
        plus: what is added to the weights before they scale.
    """

    shrinks_with_input = True

    def __init__(self, epsilon="epsilon", width=None, plus=0.0):
        self._epsilon = epsilon
        self._width = width
        self._plus = plus

    def refuses(self, node):
        if not node.layer.weights:
            return "has no weights to make up for channels that are gone"
        axis = getattr(node.layer, "axis", -1)
        if axes_of(node, axis) != {node.input.axis}:
            return "normalizes other axes than that of the channels"
        if node.input.axis != node.input.rank - 1:
            return "scales another axis than that of the channels"
        return None

    def _factors(self, node):
        (weights,) = node.params.values()
        return weights + self._plus

    def _set_factors(self, node, factors):
        (name,) = node.params
        node.params[name] = factors - self._plus

    def constants(self, node):
        constants = super().constants(node)
        return np.where(self._factors(node) == 0, 0.0, constants)

    def shrink(self, node):
        got = node.got()
        ratio = node.input.size / len(got)
        (name,) = node.params
        factors = self._factors(node)[got] * np.sqrt(ratio)
        config = {self._epsilon: getattr(node.layer, self._epsilon) * ratio}
        if self._width and getattr(node.layer, self._width):
            config[self._width] = len(got)
        return config, {name: factors - self._plus}

    def weights(self, node):
        return [(1, [(-1, np.arange(node.output.size))])]

    def output_weights(self, node):
        # With a weight of 0 it is not 0 if something is added.
        return {} if self._plus else super().output_weights(node)

    def takes_output_scale(self, node):
        return True

    def scale_output(self, node, scale):
        self._set_factors(node, self._factors(node) * scale)


class RMSNorm(_SumOfSquares):
    """`ops.rms_normalization`, with a scale that is an array or none."""

    with_arguments = True

    def refuses(self, node):
        if axes_of(node, node.layer.axis) != {node.input.axis}:
            return "normalizes other axes than that of the channels"
        if node.input.axis != node.input.rank - 1:
            return "scales another axis than that of the channels"
        return None

    def _scale(self, node):
        given = [*node.args[1:], *node.kwargs.values()]
        if not given or given[0] is None:
            return np.ones(node.input.size)
        return np.broadcast_to(
            ops.convert_to_numpy(given[0]).ravel(), (node.input.size,)
        )

    def constants(self, node):
        constants = super().constants(node)
        return np.where(self._scale(node) == 0, 0.0, constants)

    def _ratio(self, node):
        return node.input.size / len(node.got())

    def shrink(self, node):
        epsilon = node.layer.epsilon
        epsilon = keras.config.epsilon() if epsilon is None else epsilon
        return {"epsilon": epsilon * self._ratio(node)}, {}

    def call(self, node, layer, args, kwargs):
        if self._ratio(node) == 1:
            return layer(*args, **kwargs)
        scale = self._scale(node)[node.got()] * np.sqrt(self._ratio(node))
        return layer(args[0], scale.astype("float32"))


class UnitNormalization(_SumOfSquares):
    """`UnitNormalization`: divides by a norm, over the channels or not."""

    per_call = True

    def reads_gated(self, node, position):
        return node.input.axis in axes_of(node, node.layer.axis)

    def makes(self, node, live):
        if node.input.axis in axes_of(node, node.layer.axis):
            return super().makes(node, live)
        return live


class EachChannel(Rule):
    """What mixes positions along its `axis`, if not channels too.

    Such as a softmax or a `LayerNormalization` of each channel on its own.
    """

    mixes = "each of its channels depends on all channels"

    def refuses(self, node):
        if node.input.axis in axes_of(node, node.layer.axis):
            return self.mixes
        return None


class LayerNormalization(EachChannel):
    """`LayerNormalization`, and `ops.layer_normalization` with arrays."""

    with_arguments = True
    mixes = (
        "normalizes by the mean and the variance of all its channels, so that "
        "these stay, and with them all that is added up to them"
    )


class Normalization(Rule):
    """`Normalization` by means and variances of data, adapted or given."""

    shrinks_with_input = True

    def _affine(self, node):
        """Slope and offset, of the input's rank."""
        axes = node.layer._keep_axis
        shape = [
            node.input.shape[axis] if axis in axes else 1
            for axis in range(node.input.rank)
        ]
        mean, variance = (
            array.astype("float64").reshape(shape)
            for array in self._statistics(node)
        )
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
        if node.layer.invert:
            return deviation, mean
        return 1.0 / deviation, -mean / deviation

    def _statistics(self, node):
        """Mean and variance along the axes that have their own."""
        if "mean" in node.params:
            return node.params["mean"], node.params["variance"]
        axes = node.layer._keep_axis
        shape = [node.input.shape[axis] for axis in axes]
        return [
            ops.convert_to_numpy(array).reshape(shape)
            for array in (node.layer.mean, node.layer.variance)
        ]

    def constants(self, node):
        slope, offset = self._affine(node)
        inputs = along(node.input, node.input.constants)
        return per_channel(node.output, inputs * slope + offset)

    def shrink(self, node):
        statistics = self._statistics(node)
        axes = node.layer._keep_axis
        if node.input.axis in axes:
            axis = axes.index(node.input.axis)
            statistics = [
                np.take(array, node.got(), axis=axis) for array in statistics
            ]
        mean, variance = statistics
        if "mean" in node.params:
            params = {**node.params, "mean": mean, "variance": variance}
            return {}, params
        return {"mean": mean.tolist(), "variance": variance.tolist()}, {}

    def weights(self, node):
        if "mean" not in node.params:
            return []
        size = node.params["mean"].size
        if node.input.axis not in node.layer._keep_axis:
            return [(2 * size, [])]
        channels = np.arange(node.output.size)
        return [(2 * size // len(channels), [(-1, channels)])]
