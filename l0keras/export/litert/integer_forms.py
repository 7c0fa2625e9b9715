"""Layers in forms whose operations LiteRT has for integers.

Keras's own forms need `NEG`, `SQUARE`, `ELU` or a comparison, which LiteRT
computes in floats, or not at all in 16 bits.
"""

import keras
from keras import activations
from keras import layers
from keras import ops
from keras.src.ops import nn
from keras.src.ops import numpy

# Of the function of Klambauer et al. (2017).
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805
# Far below the squares of numbers that are not 0.
_TINY = 1e-24


def integer_forms(operation):
    """The attributes that an operation needs instead of its own.

    Args:
        operation: a layer or an operation of a graph.

    Returns:
        A dictionary from names of attributes to functions.
    """
    for kinds, name, make in _FORMS:
        # A class of one's own may compute something else.
        if type(operation) in kinds:
            form = make(operation)
            return {name: form} if form else {}
    known = {activations.elu: _elu, activations.selu: _selu}
    activation = vars(operation).get("activation")
    if getattr(activation, "__hash__", None) and activation in known:
        return {"activation": known[activation]}
    return {}


def _elu(x, alpha=1.0):
    negative = ops.exp(ops.minimum(x, 0.0)) - 1.0
    return ops.relu(x) + (negative if alpha == 1.0 else alpha * negative)


def _selu(x):
    return _SELU_SCALE * _elu(x, _SELU_ALPHA)


def _normalized(x, axes, epsilon):
    """Mean 0 and variance 1 along axes."""
    centered = x - ops.mean(x, axes, keepdims=True)
    return _of_length(centered, axes, epsilon)


def _of_length(x, axes, epsilon):
    """Mean square 1 along axes."""
    return x * ops.rsqrt(ops.mean(x * x, axes, keepdims=True) + epsilon)


def _layer_norm(layer):
    if layer.rms_scaling:
        return None

    def call(x):
        axes = keras.tree.flatten(layer.axis)
        axes = sorted(axis % len(x.shape) for axis in axes)
        shape = [n if i in axes else 1 for i, n in enumerate(x.shape)]
        x = _normalized(x, axes, layer.epsilon)
        if layer.scale:
            x = x * ops.reshape(layer.gamma, shape)
        return x + ops.reshape(layer.beta, shape) if layer.center else x

    return call


def _group_norm(layer):
    def call(x):
        x = ops.convert_to_tensor(x)
        axis = layer.axis % len(x.shape)
        groups = layer._reshape_into_groups(x)
        axes = [i for i in range(1, len(groups.shape)) if i != axis]
        shape = layer._create_broadcast_shape(x.shape)
        y = _normalized(groups, axes, layer.epsilon)
        if layer.scale:
            y = y * ops.reshape(layer.gamma, shape)
        if layer.center:
            y = y + ops.reshape(layer.beta, shape)
        return ops.reshape(y, ops.shape(x))

    return call


def _rms_norm(layer):
    def call(x):
        return _of_length(x, layer.axis, layer.epsilon) * layer.scale

    return call


def _unit_norm(layer):
    def call(x):
        squares = ops.sum(x * x, layer.axis, keepdims=True)
        return x * ops.rsqrt(squares + _TINY)

    return call


_FORMS = (
    ((layers.LayerNormalization,), "call", _layer_norm),
    ((layers.GroupNormalization,), "call", _group_norm),
    ((layers.RMSNormalization,), "call", _rms_norm),
    ((layers.UnitNormalization,), "call", _unit_norm),
    ((layers.ELU, nn.Elu), "call", lambda op: lambda x: _elu(x, op.alpha)),
    ((nn.Selu,), "call", lambda op: _selu),
    ((numpy.Square,), "call", lambda op: lambda x: x * x),
)
