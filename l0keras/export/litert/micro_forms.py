"""Layers in forms that TensorFlow Lite for Microcontrollers has.

It has no `GELU` and no `SELECT`, no `EXP` in integers and no `REDUCE_MAX` in
16 bits.
"""

import math

from keras import activations
from keras import layers
from keras import ops
from keras.src.ops import nn

# Of `erfc`, from Abramowitz and Stegun (1964), formula 7.1.26: the largest
# error is 1.5e-7.
_ERFC_SHARE = 0.3275911
_ERFC_POWERS = (1.061405429, -1.453152027, 1.421413741, -0.284496736)
_ERFC_FIRST = 0.254829592
# Of `tanh` in the approximation by Hendrycks and Gimpel (2016), doubled: the
# logistic function of a number is half of 1 and `tanh` of half of it.
_GELU_LINEAR = 2 * math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715 * _GELU_LINEAR
# Of the function of Klambauer et al. (2017).
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def micro_forms(operation, quantization):
    """The attributes that an operation needs instead of its own.

    Args:
        operation: a layer or an operation of a graph.
        quantization: that of the file, `None`, `"int8"` or `"int16x8"`.

    Returns:
        A dictionary from names of attributes to functions.
    """
    kind = type(operation)
    if kind is layers.Embedding:
        return {"call": lambda x: _looked_up(operation.embeddings, x)}
    if kind is nn.Gelu:
        gelu = _gelu(quantization, operation.approximate)
        return {"call": gelu}
    if kind in (layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D):
        if quantization == "int16x8":
            return {"call": lambda x: _largest(x, operation)}
    known = {activations.gelu: _gelu(quantization, False)}
    if quantization == "int8":
        # In 16 bits there is no division either.
        if kind in (layers.ELU, nn.Elu):
            return {"call": lambda x: _elu(x, operation.alpha)}
        if kind is nn.Selu:
            return {"call": _selu}
        if kind is nn.Celu:
            return {"call": lambda x: _celu(x, operation.alpha)}
        known |= {
            activations.elu: _elu,
            activations.selu: _selu,
            activations.celu: _celu,
        }
    activation = vars(operation).get("activation")
    if getattr(activation, "__hash__", None) and activation in known:
        return {"activation": known[activation]}
    return {}


def _looked_up(rows, index):
    """Rows of a table, without a look at negative indices."""
    import tensorflow as tf

    return tf.gather(rows, ops.cast(index, "int32"))


def _gelu(quantization, approximate):
    # In integers the two differ by less than a step.
    return _logistic_gelu if approximate or quantization else _exact_gelu


def _exact_gelu(x):
    size = ops.abs(x)
    inverse = 1.0 / (1.0 + _ERFC_SHARE / math.sqrt(2) * size)
    sum_of_powers = 0.0
    for factor in (*_ERFC_POWERS, _ERFC_FIRST):
        sum_of_powers = (sum_of_powers + factor) * inverse
    missing = 0.5 * sum_of_powers * ops.exp(-0.5 * x * x)
    return ops.relu(x) - size * missing


def _logistic_gelu(x):
    return x * ops.sigmoid(x * (_GELU_LINEAR + _GELU_CUBIC * (x * x)))


def _below_zero(x):
    """`exp(x) - 1` for `x` below 0, else 0."""
    half = ops.tanh(0.5 * ops.minimum(x, 0.0))
    return 2.0 * half / (1.0 - half)


def _elu(x, alpha=1.0):
    negative = _below_zero(x)
    return ops.relu(x) + (negative if alpha == 1.0 else alpha * negative)


def _selu(x):
    return _SELU_SCALE * _elu(x, _SELU_ALPHA)


def _celu(x, alpha=1.0):
    return ops.relu(x) + alpha * _below_zero(x / alpha)


def _largest(x, layer):
    """The largest number of each channel, by pooling over all positions."""
    x = ops.convert_to_tensor(x)
    channels_last = layer.data_format == "channels_last"
    axes = list(range(1, len(x.shape)))
    axes = axes[:-1] if channels_last else axes[1:]
    pooled = ops.max_pool(
        x, [x.shape[axis] for axis in axes], data_format=layer.data_format
    )
    return pooled if layer.keepdims else ops.squeeze(pooled, axes)
