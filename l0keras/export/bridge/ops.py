"""Operations of Keras 3 without a layer, as layers of tf_keras."""

import functools
import numbers

import keras
import numpy as np

from l0keras.export.bridge.tfmot import import_tf_keras
from l0keras.export.bridge.translate import Refused
from l0keras.export.bridge.translate import activation
from l0keras.export.bridge.translate import carried
from l0keras.graph.graph import Value

_MERGES = {
    "Add": "Add",
    "Maximum": "Maximum",
    "Minimum": "Minimum",
    "Multiply": "Multiply",
    "Subtract": "Subtract",
}
# Operations with a tensor and a number c: the factor and the offset of the
# tensor, for a number on the right and for a number on the left.
_SCALINGS = {
    "Add": (lambda c: (1, c), lambda c: (1, c)),
    "Multiply": (lambda c: (c, 0), lambda c: (c, 0)),
    "Subtract": (lambda c: (1, -c), lambda c: (-1, c)),
    "Divide": (lambda c: (1 / c, 0), None),
    "TrueDivide": (lambda c: (1 / c, 0), None),
}
_FUNCTIONS = {
    "Celu": "celu",
    "Elu": "elu",
    "Exp": "exponential",
    "Gelu": "gelu",
    "Glu": "glu",
    "HardShrink": "hard_shrink",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "HardTanh": "hard_tanh",
    "LogSigmoid": "log_sigmoid",
    "LogSoftmax": "log_softmax",
    "Relu": "relu",
    "Relu6": "relu6",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "SoftShrink": "soft_shrink",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Squareplus": "squareplus",
    "Tanh": "tanh",
    "TanhShrink": "tanh_shrink",
    "Threshold": "threshold",
}


def adapt_op(node):
    """Finds the tf_keras layer that computes the same as an operation.

    Args:
        node: the `Node` of the operation.

    Returns:
        A function from a name to a new layer. The layer is called on the
        input of the operation, or on the list of its inputs.

    Raises:
        Refused: the operation has no equivalent.
    """
    operation = node.layer
    name = type(operation).__name__
    if not type(operation).__module__.startswith("keras.src."):
        raise Refused("it is not an operation of Keras")
    for value in [*node.inputs, *node.outputs]:
        dtype = keras.backend.standardize_dtype(value.tensor.dtype)
        if "float" not in dtype:
            raise Refused(f"it computes with {dtype}")
        if getattr(value.tensor, "_keras_mask", None) is not None:
            raise Refused("Keras 3 drops the mask here, and tf_keras would not")
    if len(node.outputs) != 1:
        raise Refused("it has several outputs")
    kind, config = _layer(name, operation, node)
    if isinstance(kind, str):
        kind = getattr(import_tf_keras().layers, kind)
    dtype = keras.backend.standardize_dtype(node.output.tensor.dtype)
    return lambda name: kind(**config, name=name, dtype=dtype)


def _layer(name, operation, node):
    given = [*node.args, *node.kwargs.values()]
    said = _said(operation)
    shape = node.output.shape
    if name in _MERGES and all(isinstance(x, Value) for x in given):
        return _MERGES[name], {}
    if name in _SCALINGS and len(given) == 2:
        return "Rescaling", _scaling(name, given)
    if name == "Negative":
        return "Rescaling", {"scale": -1.0}
    if name == "Concatenate":
        return "Concatenate", {"axis": said["axis"]}
    if name == "ReLU":
        return "ReLU", said
    if name == "LeakyRelu":
        return "LeakyReLU", {"alpha": said["negative_slope"]}
    if name == "Softmax" and isinstance(said["axis"], int):
        return "Softmax", {"axis": said["axis"]}
    if name in _FUNCTIONS:
        return "Activation", {"activation": _function(_FUNCTIONS[name], said)}
    if name == "Identity":
        return "Activation", {"activation": "linear"}
    if name in ("Reshape", "ExpandDims", "Squeeze", "Flatten"):
        return "Reshape", {"target_shape": _target(node.input.shape, shape)}
    if name == "Transpose":
        return "Permute", {"dims": _permutation(said["axes"], shape)}
    if name in ("Mean", "Max"):
        return _pooling(name, said, node.input)
    if name == "Take":
        return take_class(), _selection(said, given)
    raise Refused("tf_keras has no layer for this operation")


def _said(operation):
    return {
        key: value
        for key, value in vars(operation).items()
        if key != "name" and not key.startswith("_")
    }


def _scaling(name, given):
    left, right = given
    number, rule = (right, 0) if isinstance(left, Value) else (left, 1)
    rule = _SCALINGS[name][rule]
    if isinstance(number, Value) or not isinstance(number, numbers.Real):
        raise Refused("one of its arguments is an array and not a number")
    if rule is None or (name.endswith("Divide") and number == 0):
        raise Refused("it divides by a tensor or by 0")
    scale, offset = rule(float(number))
    return {"scale": scale, "offset": offset}


def _function(name, said):
    function = getattr(keras.activations, name)
    if name == "gelu":
        if said["approximate"]:
            return carried("gelu", approximate=True)
        said = {}
    return carried(name, **said) if said else activation(function)


def _target(before, shape):
    """The target of a `Reshape` layer, which cannot change the batch axis."""
    sizes = shape[1:]
    if before[0] != shape[0] or None in before[1:] or None in sizes:
        raise Refused("it may mix examples, or its sizes are not known")
    return sizes


def _permutation(axes, shape):
    axes = tuple(axes or reversed(range(len(shape))))
    axes = tuple(axis % len(shape) for axis in axes)
    if axes[0] != 0:
        raise Refused("it moves the batch axis")
    return axes[1:]


def _selection(said, given):
    value, indices = given
    if not isinstance(value, Value) or isinstance(indices, Value):
        raise Refused("its indices are not constants")
    axis, indices = said["axis"], np.asarray(indices)
    if axis is None or axis % value.rank == 0:
        raise Refused("it takes examples out of the batch")
    size = value.shape[axis]
    if np.any(indices < 0):
        if size is None:
            raise Refused("it counts from the end of an axis of free size")
        indices = np.where(indices < 0, indices + size, indices)
    return {"indices": indices.tolist(), "axis": axis}


def _pooling(name, said, value):
    axis = said["axis"]
    axes = (axis,) if isinstance(axis, int) else axis
    axes = sorted(axis % value.rank for axis in axes or range(value.rank))
    if axes != list(range(1, value.rank - 1)) or not 3 <= value.rank <= 5:
        raise Refused("it reduces over other axes than global pooling does")
    if said.get("initial") is not None:
        raise Refused("it has an initial value")
    pooling = {"Mean": "Average", "Max": "Max"}[name]
    config = {"keepdims": said["keepdims"], "data_format": "channels_last"}
    return f"Global{pooling}Pooling{value.rank - 2}D", config


@functools.cache
def take_class():
    """The class of a tf_keras layer that takes entries along an axis.

    The class is made at the first call, because its base class is imported
    late. It is registered, so tfmot can clone its layers.
    """
    import tensorflow as tf

    tf_keras = import_tf_keras()

    @tf_keras.utils.register_keras_serializable("l0keras")
    class Take(tf_keras.layers.Layer):
        def __init__(self, indices, axis, **kwargs):
            super().__init__(**kwargs)
            self.indices = indices
            self.axis = axis

        def call(self, inputs):
            return tf.gather(inputs, self.indices, axis=self.axis)

        def get_config(self):
            return {
                **super().get_config(),
                "indices": self.indices,
                "axis": self.axis,
            }

    return Take
