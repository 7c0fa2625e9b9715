import numpy as np
from keras import ops
from keras import tree

from l0keras.gates import SharedGate
from l0keras.graph.graph import Value
from l0keras.graph.rules.rule import OtherAxis
from l0keras.graph.rules.rule import Rule


class Merge(Rule):
    """Layers and ops that combine tensors number by number.

    An operand may also be an array or a number that the op was called with,
    and an input may have one channel for all of the others.
    """

    inputs = None
    with_arguments = True
    per_call = True
    aligns = True

    def refuses(self, node):
        rank, axis = node.output.rank, self.output_axis(node)
        if all(value.rank < rank for value in node.inputs):
            return "merges a tensor with an array of higher rank"
        for value in node.inputs:
            # Tensors of lower rank are aligned at the last axis.
            if value.axis < 1 or value.axis - value.rank != axis - rank:
                return OtherAxis(
                    "merges tensors whose channels lie along different axes"
                )
            if value.rank < rank and axis != rank - 1:
                return "merges tensors of different ranks"
        size = node.output.shape[axis]
        if not size or any(
            value.size not in (1, size) for value in node.inputs
        ):
            return "merges tensors of unlike channels"
        if len(node.inputs) > 1 and not all(v.selectable for v in node.inputs):
            return "merges tensors that carry a mask or are sparse"
        return None

    def output_axis(self, node):
        return node.input.axis - node.input.rank + node.output.rank

    def operands(self, node):
        """The operands in order: a `Value` or an array each."""
        operands = tree.flatten(node.args[0])
        if len(node.args) + len(node.kwargs) > 1:
            operands = [*node.args, *node.kwargs.values()]
        return [
            operand
            if isinstance(operand, Value)
            else ops.convert_to_numpy(operand)
            for operand in operands
        ]

    def _by_channel(self, node, operand):
        """An operand's constants, one for each channel of the output."""
        size, axis = node.output.size, node.output.axis
        if isinstance(operand, Value):
            return np.broadcast_to(operand.constants, (size,))
        array = operand.reshape(
            (1,) * (node.output.rank - operand.ndim) + operand.shape
        )
        array = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
        same = np.all(array == array[:1], axis=0)
        return np.broadcast_to(np.where(same, array[0], np.nan), (size,))

    def function(self, node, operands):
        """The merge of arrays in which NaN is what is not known."""
        raise NotImplementedError

    def coefficients(self, node, operands, position):
        """The merge as a function of one operand, given all others.

        Returns:
            A scale and an offset, or `None`.
        """
        return None

    def constants(self, node):
        operands = [self._by_channel(node, x) for x in self.operands(node)]
        return self.function(node, operands)

    def affine(self, node):
        operands = self.operands(node)
        arrays = [self._by_channel(node, operand) for operand in operands]
        fixed = node.output.constants
        needed = np.isnan(fixed)
        if node.output.live is not None:
            needed &= node.output.live
        open_ones = [
            i for i, x in enumerate(arrays) if np.any(np.isnan(x[needed]))
        ]
        values = [i for i, x in enumerate(operands) if isinstance(x, Value)]
        # There has to be a tensor that can go, and one that stays.
        if len(open_ones) > 1 or len(values) < 2:
            return None
        # Of those that all are constant, one that has the length of a batch.
        able = [
            i
            for i in values
            if operands[i].shape == node.output.shape
            and (i in open_ones or not open_ones and not _is_gates(operands[i]))
        ]
        if not able:
            return None
        stays = able[0]
        form = self.coefficients(node, arrays, stays)
        if form is None and np.any(needed):
            return None
        scale, offset = (
            np.broadcast_to(np.asarray(x, "float64"), fixed.shape)
            for x in form or (np.nan, np.nan)
        )
        known = np.isfinite(scale) & np.isfinite(offset)
        if not np.all(known[needed]):
            return None
        # Nobody needs the others, but where they are constant their readers
        # may count on it.
        varies = np.isnan(fixed)
        scale = np.where(known, scale, np.where(varies, 1.0, 0.0))
        offset = np.where(known, offset, np.where(varies, 0.0, fixed))
        return values.index(stays), scale, offset

    def call(self, node, layer, args, kwargs):
        kept, axis = node.output.kept, node.output.axis

        def cut(operand):
            shape = np.shape(operand)
            own = len(shape) - node.output.rank + axis
            if own < 0 or shape[own] == 1:
                return operand
            return np.take(ops.convert_to_numpy(operand), kept, axis=own)

        if len(args) + len(kwargs) > 1:
            values = [*node.args, *node.kwargs.values()]
            fixed = [not isinstance(value, Value) for value in values]
            args = [
                cut(x) if is_fixed else x
                for x, is_fixed in zip([*args, *kwargs.values()], fixed)
            ]
            names = list(kwargs)
            first = len(args) - len(names)
            kwargs = dict(zip(names, args[first:]))
            args = args[:first]
        return layer(*args, **kwargs)


def _is_gates(value):
    """Whether a value is what a `SharedGate` gives out, whatever the input."""
    while value.producer is not None and len(value.producer.inputs) == 1:
        if isinstance(value.producer.layer, SharedGate):
            return True
        value = value.producer.input
    return False


def _others(operands, position):
    return [x for i, x in enumerate(operands) if i != position]


class Add(Merge):
    def function(self, node, operands):
        return np.sum(operands, axis=0)

    def coefficients(self, node, operands, position):
        return 1.0, np.sum(_others(operands, position), axis=0)


class Average(Merge):
    def function(self, node, operands):
        return np.mean(operands, axis=0)

    def coefficients(self, node, operands, position):
        count = len(operands)
        return 1.0 / count, np.sum(_others(operands, position), axis=0) / count


class Subtract(Merge):
    def function(self, node, operands):
        return operands[0] - operands[1]

    def coefficients(self, node, operands, position):
        if position == 0:
            return 1.0, -operands[1]
        return -1.0, operands[0]


class Multiply(Merge):
    def function(self, node, operands):
        # Zero times anything, also what is not known.
        shut = np.any([operand == 0 for operand in operands], axis=0)
        return np.where(shut, 0.0, np.prod(operands, axis=0))

    def coefficients(self, node, operands, position):
        return np.prod(_others(operands, position), axis=0), 0.0


class Divide(Merge):
    def function(self, node, operands):
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = operands[0] / operands[1]
        return np.where(np.isfinite(quotient), quotient, np.nan)

    def coefficients(self, node, operands, position):
        if position == 1:
            return None
        with np.errstate(divide="ignore"):
            return 1.0 / operands[1], 0.0


class Power(Merge):
    def function(self, node, operands):
        with np.errstate(all="ignore"):
            power = np.power(operands[0], operands[1])
        return np.where(np.isfinite(power), power, np.nan)


class Binary(Merge):
    """Other functions of two numbers, whose constants are not followed.

    Some of them jump, so that rounding would decide on which side.
    """

    def function(self, node, operands):
        return np.full(node.output.size, np.nan)


class Where(Merge):
    """`ops.where`, with a condition for each number."""

    def refuses(self, node):
        if len(node.args) + len(node.kwargs) < 3 or any(
            choice is None for choice in (*node.args, *node.kwargs.values())
        ):
            return "gives places, not numbers"
        return super().refuses(node)

    def function(self, node, operands):
        condition, one, other = operands
        chosen = np.where(condition, one, other)
        return np.where(np.isnan(condition) & (one != other), np.nan, chosen)


class Maximum(Merge):
    def function(self, node, operands):
        return np.max(operands, axis=0)


class Minimum(Merge):
    def function(self, node, operands):
        return np.min(operands, axis=0)


class ScaledAdd(Merge):
    """`x + scale * y`, the `CustomScaleLayer` of Keras's InceptionResNetV2."""

    def function(self, node, operands):
        return operands[0] + node.layer.scale * operands[1]

    def coefficients(self, node, operands, position):
        if position == 0:
            return 1.0, node.layer.scale * operands[1]
        return node.layer.scale, operands[0]


class _Channels(Rule):
    """`Concatenate`, the layer and the op, along the channels."""

    inputs = None
    per_call = True
    optional_inputs = True

    def refuses(self, node):
        value = node.input
        if any(v.axis != value.axis for v in node.inputs):
            return "joins tensors whose channels lie along different axes"
        if node.layer.axis % value.rank != value.axis:
            return "joins along another axis than that of the channels"
        if not all(v.selectable for v in node.inputs):
            return "joins tensors that carry a mask or are sparse"
        return None

    def sources(self, node):
        sizes = [value.size for value in node.inputs]
        starts = np.cumsum([0, *sizes])
        sources = []
        for start, size in zip(starts, sizes):
            source = np.full(starts[-1], -1)
            source[start : start + size] = np.arange(size)
            sources.append(source)
        return sources

    def constants(self, node):
        return np.concatenate([value.constants for value in node.inputs])

    def call(self, node, layer, args, kwargs):
        tensors = [tensor for tensor in args[0] if tensor is not None]
        if len(tensors) == 1:
            return tensors[0]
        return layer(tensors)


class _Positions(_Channels):
    """`Concatenate` along positions: the channels have to be the same."""

    aligns = True
    optional_inputs = False
    sources = Rule.sources
    call = Rule.call

    def refuses(self, node):
        value = node.input
        if any(
            (v.axis, v.size) != (value.axis, value.size) for v in node.inputs
        ):
            return "joins tensors of unlike channels"
        if node.layer.axis % value.rank == 0:
            return "joins batches"
        if not all(v.selectable for v in node.inputs):
            return "joins tensors that carry a mask or are sparse"
        return None

    def constants(self, node):
        constants = np.array([value.constants for value in node.inputs])
        same = np.all(constants == constants[:1], axis=0)
        return np.where(same, constants[0], np.nan)


class Stack(_Positions):
    """`ops.stack`: the new axis is one of positions."""

    def _new(self, node):
        return node.layer.axis % node.output.rank

    def refuses(self, node):
        value = node.input
        if self._new(node) == 0:
            return "stacks batches"
        if any(
            (v.axis, v.size) != (value.axis, value.size) for v in node.inputs
        ):
            return OtherAxis("stacks tensors of unlike channels")
        if not all(v.selectable for v in node.inputs):
            return "stacks tensors that carry a mask or are sparse"
        return None

    def output_axis(self, node):
        return node.input.axis + (self._new(node) <= node.input.axis)


class Concatenate(_Channels):
    """`Concatenate`, the layer and the op, along any axis but the batch."""

    alternatives = (_Positions(),)
