"""What rules for wrappers need: the layer inside, and its configuration."""

import keras

from l0keras.graph.graph import Value


class Inner:
    """A call of a wrapper, as the rule for the layer inside may see it.

    Args:
        node: the `Node` of the wrapper.
        layer: the layer inside.
        axis: the axis of all tensors that the layer does not see.
    """

    kwargs = {}
    training = None
    arguments_beyond_input = False

    def __init__(self, node, layer, axis):
        self._node = node
        self.layer = layer
        self.inputs = [_without(node.input, axis)]
        self.args = tuple(self.inputs)
        self.outputs = [_without(node.output, axis)]

    def __getattr__(self, name):
        return getattr(self._node, name)

    @property
    def input(self):
        return self.inputs[0]

    @property
    def output(self):
        return self.outputs[0]


def _without(value, axis):
    shape = value.shape[:axis] + value.shape[axis + 1 :]
    inner = _Value(keras.KerasTensor(shape, dtype=value.tensor.dtype))
    inner.outer = value
    inner.constants, inner.kept = value.constants, value.kept
    inner.live = value.live
    if value.axis is not None:
        inner.axis = value.axis - (value.axis > axis)
    return inner


class _Value(Value):
    @property
    def selectable(self):
        return self.outer.selectable
