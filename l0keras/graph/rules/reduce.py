import numpy as np
from keras.src.ops import numpy as numpy_ops

from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import axes_of


class Reduce(Rule):
    """Ops that reduce positions to one number: `max`, `mean`, `std`, ..."""

    per_call = True
    homogeneous = True

    def axes(self, node):
        if node.layer.axis is None:
            return set(range(node.input.rank))
        return axes_of(node, node.layer.axis)

    def refuses(self, node):
        if 0 in self.axes(node):
            return "reduces the batch"
        if node.input.axis in self.axes(node):
            return "reduces the channels"
        if getattr(node.layer, "initial", None) is not None:
            return "reduces with an initial value"
        return None

    def output_axis(self, node):
        axis = node.input.axis
        if node.layer.keepdims:
            return axis
        return axis - sum(gone < axis for gone in self.axes(node))

    def constants(self, node):
        constants = node.input.constants
        sizes = [
            node.input.shape[axis]
            for axis in self.axes(node)
            if axis != node.input.axis
        ]
        if None in sizes:
            # Where no number is right for any count, it is not known.
            once, many = (self._reduced(constants, n) for n in (1, 2))
            return np.where(once == many, once, np.nan)
        with np.errstate(over="ignore"):
            reduced = self._reduced(constants, np.prod(sizes, dtype=float))
        return np.where(np.isfinite(reduced), reduced, np.nan)

    def _reduced(self, constants, count):
        """What `count` times the same number is reduced to."""
        return constants


class SumOfChannels(Reduce):
    """A `sum` over channels, and maybe positions: without those that are 0."""

    def refuses(self, node):
        if 0 in self.axes(node):
            return "reduces the batch"
        if getattr(node.layer, "initial", None) is not None:
            return "reduces with an initial value"
        return None

    def output_axis(self, node):
        # Of size 1, or else there are only positions left.
        return node.input.axis if node.layer.keepdims else node.output.axis

    def sources(self, node):
        return [np.full(node.output.size, -1)]

    def constants(self, node):
        # Of the sum over positions of each channel, or of their mean.
        total = self._total(super().constants(node))
        return np.full(node.output.size, total)

    def reads_gated(self, node, position):
        return True

    def _reduced(self, constants, count):
        return constants * count

    def _total(self, constants):
        return constants.sum()

    def reads(self, node, made):
        return [node.constants() != 0]

    def is_homogeneous(self, node):
        return False


class MeanOfChannels(SumOfChannels):
    """A `mean` over channels: of fewer, times their share."""

    def _reduced(self, constants, count):
        return constants

    def _total(self, constants):
        return constants.mean()

    def call(self, node, layer, args, kwargs):
        outputs = layer(*args, **kwargs)
        share = len(node.got()) / node.input.size
        if share == 1:
            return outputs
        # The size tells it from one of an earlier time.
        name = f"{layer.name}_of_{node.input.size}"
        return numpy_ops.Multiply(name=name)(outputs, share)


class _ExtremeOfChannels(SumOfChannels):
    """A `max` or `min` over channels: of fewer, and of the constants gone."""

    merge = None

    def _reduced(self, constants, count):
        return constants

    def reads(self, node, made):
        return [np.isnan(node.constants())]

    def call(self, node, layer, args, kwargs):
        outputs = layer(*args, **kwargs)
        gone = np.ones(node.input.size, bool)
        gone[node.got()] = False
        if not np.any(gone):
            return outputs
        name = f"{layer.name}_of_{node.input.size}"
        number = float if "float" in node.output.tensor.dtype else int
        limit = number(self._total(node.constants()[gone]))
        return self.merge(name=name)(outputs, limit)


class MaximumOfChannels(_ExtremeOfChannels):
    merge = numpy_ops.Maximum

    def _total(self, constants):
        return constants.max()


class MinimumOfChannels(_ExtremeOfChannels):
    merge = numpy_ops.Minimum

    def _total(self, constants):
        return constants.min()


class Maximum(Reduce):
    alternatives = (MaximumOfChannels(),)


class Minimum(Reduce):
    alternatives = (MinimumOfChannels(),)


class Sum(Reduce):
    alternatives = (SumOfChannels(),)

    def _reduced(self, constants, count):
        return constants * count


class Mean(Reduce):
    alternatives = (MeanOfChannels(),)


class Product(Reduce):
    homogeneous = False

    def _reduced(self, constants, count):
        return constants**count


class Deviation(Reduce):
    """`std`: 0 where all numbers are the same."""

    def _reduced(self, constants, count):
        return 0.0 * constants


class Variance(Deviation):
    homogeneous = False


class LogSumExp(Reduce):
    homogeneous = False

    def _reduced(self, constants, count):
        return constants + np.log(count)
