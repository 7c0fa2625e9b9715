import numbers

import numpy as np
from keras import ops
from keras.src.ops import numpy as numpy_ops

from l0keras.graph.graph import Value
from l0keras.graph.rules.rule import Rule


def _is_plain(key):
    """Whether a key is an integer or a slice between integers."""
    parts = [key.start, key.stop, key.step] if isinstance(key, slice) else [key]
    if isinstance(key, slice):
        parts = [part for part in parts if part is not None]
    return all(
        isinstance(part, numbers.Integral) and not isinstance(part, bool)
        for part in parts
    )


def _is_new(key):
    """Whether a key makes a new axis: `None`, alias `np.newaxis`."""
    return key is None


def _is_all(key):
    return isinstance(key, slice) and (
        key.start in (None, 0) and key.stop is None and key.step in (None, 1)
    )


class _GetItem(Rule):
    with_arguments = True
    per_call = True

    def _keys(self, node):
        """An integer or a slice for each axis, and `None` for each new one."""
        given = [*node.args[1:], *node.kwargs.values()]
        keys = given[0]
        keys = list(keys) if isinstance(keys, (tuple, list)) else [keys]
        dots = [i for i, key in enumerate(keys) if key is Ellipsis]
        start = dots[0] if dots else len(keys)
        behind = keys[start + 1 :]
        own = [k for k in keys[:start] + behind if not _is_new(k)]
        rest = [slice(None)] * (node.input.rank - len(own))
        return keys[:start] + rest + behind

    def _place(self, node, keys):
        """Where among the keys that of the channels is."""
        own = [i for i, key in enumerate(keys) if not _is_new(key)]
        return own[node.input.axis]

    def refuses(self, node):
        keys = self._keys(node)
        if not all(_is_new(key) or _is_plain(key) for key in keys):
            return "takes by other than integers and slices"
        if not _is_all(keys[0]):
            return "takes a part of the batch, or moves it"
        return self._refuses(node, keys, self._place(node, keys))


class _Slice(_GetItem):
    """Several channels, and positions as you like."""

    homogeneous = True

    def _refuses(self, node, keys, place):
        key = keys[place]
        others = [k for i, k in enumerate(keys) if i != place]
        if key.step not in (None, 1) and not all(map(_is_all, others)):
            return "takes channels in steps, and positions too"
        if not len(range(*key.indices(node.input.size))):
            return "takes nothing"
        return None

    def output_axis(self, node):
        keys = self._keys(node)
        before = keys[: self._place(node, keys)]
        return sum(_is_new(key) or isinstance(key, slice) for key in before)

    def sources(self, node):
        keys = self._keys(node)
        return [np.arange(node.input.size)[keys[self._place(node, keys)]]]

    def constants(self, node):
        return node.input.constants[self.sources(node)[0]]

    def takes_whole_sets(self, node):
        # What the input has for others need not be a part of this.
        return True

    def call(self, node, layer, args, kwargs):
        keys = self._keys(node)
        place = self._place(node, keys)
        if _is_all(keys[place]):
            return layer(args[0], tuple(keys))
        got = node.got()
        indices = np.searchsorted(got, self.sources(node)[0][node.output.kept])
        start, stop = int(indices[0]), int(indices[-1]) + 1
        if not np.array_equal(indices, np.arange(start, stop)):
            take = numpy_ops.Take(axis=node.input.axis, name=layer.name)
            return take(args[0], indices.tolist())
        keys[place] = slice(start, stop)
        if stop - start == len(got) and all(
            _is_all(key) for other, key in enumerate(keys) if other != place
        ):
            return args[0]
        return layer(args[0], tuple(keys))


class GetItem(_GetItem):
    """`x[:, 0, None, ..., 2:5]`, or one channel by its index.

    After the latter what is left are positions.
    """

    alternatives = (_Slice(),)

    def _refuses(self, node, keys, place):
        several = isinstance(keys[place], slice)
        return "takes several channels" if several else None

    def _channel(self, node):
        keys = self._keys(node)
        return keys[self._place(node, keys)] % node.input.size

    def output_axis(self, node):
        return node.output.axis

    def sources(self, node):
        return [np.full(node.output.size, self._channel(node))]

    def constants(self, node):
        constant = node.input.constants[self._channel(node)]
        return np.full(node.output.size, constant)

    def reads(self, node, made):
        return [np.arange(node.input.size) == self._channel(node)]

    def keeps(self, node):
        return np.arange(node.output.size)

    def call(self, node, layer, args, kwargs):
        keys = self._keys(node)
        channel = np.searchsorted(node.got(), self._channel(node))
        keys[self._place(node, keys)] = int(channel)
        return layer(args[0], tuple(keys))


class _TakePositions(Rule):
    """`ops.take` of fixed positions."""

    with_arguments = True
    per_call = True
    homogeneous = True

    def refuses(self, node):
        if node.layer.axis is None:
            return "takes entries of the flattened tensor"
        axis = node.layer.axis % node.input.rank
        if axis in (0, node.input.axis):
            return "takes a part of the batch, or channels by no list"
        return _no_list(node)

    def output_axis(self, node):
        before = node.layer.axis % node.input.rank < node.input.axis
        return node.input.axis + before * (np.ndim(node.args[1]) - 1)

    def constants(self, node):
        return node.input.constants


def _no_list(node):
    """Why the indices of `ops.take` are not fixed, or `None`."""
    if len(node.args) != 2 or node.kwargs or isinstance(node.args[1], Value):
        return "takes by other than fixed indices"
    return None


class TakeAlongAxis(Rule):
    """`ops.take_along_axis` of positions that are the same in all channels."""

    inputs = None
    with_arguments = True
    per_call = True

    def channel_inputs(self, node):
        return [0]

    def refuses(self, node):
        value, axis = node.args[0], node.layer.axis
        if len(node.args) != 2 or not isinstance(value, Value) or axis is None:
            return "takes entries of other than one tensor"
        if axis % value.rank in (0, value.axis):
            return "takes along the axis of the batch or of the channels"
        if tuple(node.args[1].shape)[value.axis] != 1:
            return "takes other positions of each channel"
        return None

    def sources(self, node):
        channels = np.arange(node.output.size)
        others = [np.full(len(channels), -1)] * (len(node.inputs) - 1)
        return [channels, *others]

    def reads(self, node, made):
        return [made, *(np.ones(v.size, bool) for v in node.inputs[1:])]

    def constants(self, node):
        return node.input.constants


class Take(Rule):
    """`ops.take` of fixed channels, or positions."""

    with_arguments = True
    rounds = False
    homogeneous = True
    alternatives = (_TakePositions(),)

    def refuses(self, node):
        value = node.input
        if (
            node.layer.axis is None
            or node.layer.axis % value.rank != value.axis
        ):
            return "takes along another axis than that of the channels"
        if not _no_list(node) and np.ndim(node.args[1]) != 1:
            return "takes channels by other than a list of indices"
        return _no_list(node)

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
