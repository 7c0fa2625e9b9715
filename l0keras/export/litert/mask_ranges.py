"""Ranges of scores with a mask, of which a softmax makes attention.

A mask puts -1e9 or less in the place of scores, or adds it to them. A scale
of integers for such numbers has all scores in one step, so that attention
would be the same everywhere.
"""

import numpy as np

from l0keras.export.litert.float_model import constant
from l0keras.export.litert.float_model import kind
from l0keras.export.litert.float_model import kinds
from l0keras.export.litert.float_model import operations
from l0keras.export.litert.float_model import range_of
from l0keras.export.litert.float_model import replace_constant
from l0keras.export.litert.float_model import set_range

# So far below the least score is a masked one. Its share in a softmax is then
# below a step of int8, 1/256.
_BELOW = 12.0
# What is so far from 0 is no score.
_HUGE = 1e4


def clip_masks(model):
    """Narrows ranges to what a softmax can tell apart.

    Args:
        model: a float model with ranges, changed in its place.
    """
    for graph in model.subgraphs:
        scores = _Scores(graph, model)
        for op in list(graph.operators):
            if kind(op, model) in kinds("SOFTMAX"):
                scores.clip(op)


class _Scores:
    """What the softmaxes of a graph read."""

    def __init__(self, graph, model):
        self._graph = graph
        self._model = model
        self._makers = {
            id(tensor): op
            for op, _, made in operations(graph)
            for tensor in made
        }
        # As measured, whatever is changed.
        self._ranges = {id(one): range_of(one) for one in graph.tensors}
        # How far masks are from 0 that several layers add.
        self._far = {}

    def clip(self, softmax):
        """Clips the mask in what a softmax reads, if it is one known here."""
        tensors = [self._inputs(softmax)[0]]
        op = self._makers.get(id(tensors[0]))
        while op and self._is_a(op, "RESHAPE", "TRANSPOSE"):
            tensors.append(self._inputs(op)[0])
            op = self._makers.get(id(tensors[-1]))
        found = self._ranges[id(tensors[-1])]
        if op is None or found is None or found[0] > -_HUGE:
            return
        clipped = None
        if self._is_a(op, "SELECT", "SELECT_V2"):
            clipped = self._selected(op)
        elif self._is_a(op, "ADD", "SUB"):
            clipped = self._added(op)
        if clipped is None:
            return
        for tensor in tensors:
            set_range(tensor, *clipped)

    def _selected(self, op):
        """Clips one of two operands; returns the range of the result."""
        operands = self._inputs(op)[1:]
        for place, (other, own) in enumerate((operands, operands[::-1])):
            if self._is_far(other):
                low, high = self._ranges[id(own)]
                self._replace(op, 1 + place, -low + _BELOW)
                return low - _BELOW, high
            maker = self._makers.get(id(other))
            if maker is not None and self._is_a(maker, "ADD", "SUB"):
                clipped = self._added(maker)
                if clipped is not None:
                    set_range(other, *clipped)
                    return clipped
        return None

    def _added(self, op):
        """Clips what is added to scores; returns the range of the result."""
        operands = self._inputs(op)
        for place, (other, own) in enumerate((operands, operands[::-1])):
            if self._is_far(other):
                low, high = self._ranges[id(own)]
                self._replace(op, place, high - low + _BELOW)
                return 2 * low - high - _BELOW, high
            maker = self._makers.get(id(other))
            if maker is None or not self._is_a(maker, "MUL"):
                continue
            factors = self._inputs(maker)
            for factor, (number, share) in enumerate((factors, factors[::-1])):
                if self._is_far(number, maker):
                    low, high = self._ranges[id(own)]
                    far = self._common(maker, high - low + _BELOW)
                    self._replace(maker, factor, far)
                    most = far * max(map(abs, self._ranges[id(share)]))
                    limits = np.clip(self._ranges[id(other)], -most, most)
                    set_range(other, *map(float, limits))
                    return low - most, high
        return None

    def _common(self, maker, far):
        """The same for all layers to whose scores the same mask is added."""
        far = max(far, self._far.get(id(maker), 0.0))
        self._far[id(maker)] = far
        return far

    def _is_far(self, tensor, maker=None):
        """Whether a tensor is a constant far from 0, or has been one."""
        array = constant(tensor, self._model)
        if array is None or not array.size:
            return False
        return id(maker) in self._far or np.max(np.abs(array)) > _HUGE

    def _replace(self, op, place, far):
        """Brings a constant of an operation nearer to 0."""
        index = op.inputs[place]
        array = constant(self._graph.tensors[index], self._model)
        array = np.sign(array) * np.minimum(np.abs(array), far)
        replace_constant(op, place, self._graph, self._model, array)

    def _inputs(self, op):
        return [self._graph.tensors[index] for index in op.inputs]

    def _is_a(self, op, *names):
        return kind(op, self._model) in kinds(*names)
