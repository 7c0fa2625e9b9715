import weakref

import keras
import numpy as np
from keras import ops
from keras.src.activations.activations import ReLU
from keras.src.ops import core
from keras.src.ops import math
from keras.src.ops import nn
from keras.src.ops import numpy as numpy_ops

_ELEMENTWISE = (
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh "
    "leaky_relu linear log_sigmoid mish relu relu6 selu sigmoid silu "
    "soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh "
    "tanh_shrink threshold"
).split()
ELEMENTWISE = frozenset(
    getattr(keras.activations, name) for name in _ELEMENTWISE
)
HOMOGENEOUS = frozenset(
    getattr(keras.activations, name)
    for name in ("leaky_relu", "linear", "relu")
)
# Ops on one tensor that compute each number from that number alone.
NUMPY_OPS = (
    "Arccos Arccosh Arcsin Arcsinh Arctan Arctanh Cbrt Ceil Cos Cosh "
    "Exp Exp2 Expm1 Floor Log Log10 Log1p Log2 Reciprocal Round Sign Sin "
    "Isfinite Isinf Isnan LogicalNot Sinc Sinh Sqrt Square Tan Tanh Trunc"
)
NN_OPS = (
    "Celu Elu Gelu HardShrink HardSigmoid HardSilu HardTanh LogSigmoid "
    "Relu6 Selu Sigmoid Silu SoftShrink Softplus Softsign SparsePlus "
    "SparseSigmoid Squareplus TanhShrink Threshold"
)
# What own activation functions may be made of, beside these.
_MORE_NUMPY_OPS = (
    "Abs Absolute Add Arctan2 Clip Copy Divide Equal Greater GreaterEqual "
    "Less LessEqual Maximum Minimum Multiply Negative NotEqual Power "
    "Subtract TrueDivide Where"
)
_OPS = {
    *(getattr(nn, name) for name in (*NN_OPS.split(), "LeakyRelu", "Relu")),
    *(getattr(numpy_ops, name) for name in NUMPY_OPS.split()),
    *(getattr(numpy_ops, name) for name in _MORE_NUMPY_OPS.split()),
    *(math.Erf, math.Rsqrt, core.Cast, core.StopGradient, ReLU),
}
_traced = weakref.WeakKeyDictionary()


def is_elementwise(activation):
    """Whether each unit's activation depends on that unit alone.

    That is known of the functions of `keras.activations`. Others are traced;
    what cannot be traced counts as mixing units, as softmax does.
    """
    if activation is None or _in(activation, ELEMENTWISE):
        return True
    try:
        if activation not in _traced:
            _traced[activation] = _is_traced_elementwise(activation)
        return _traced[activation]
    except TypeError:
        # Neither hashed nor noted.
        return _is_traced_elementwise(activation)


def _is_traced_elementwise(activation):
    if isinstance(activation, keras.Layer):
        # It may do something else in training.
        return False
    inputs = keras.KerasTensor((None, 2, 3))
    try:
        output = activation(inputs)
    except Exception:
        return False
    stack, seen = [output], {id(inputs)}
    while stack:
        tensor = stack.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        history = getattr(tensor, "_keras_history", None)
        if history is None or tensor.shape != inputs.shape:
            return False
        if type(history.operation) not in _OPS:
            return False
        (node,) = history.operation._inbound_nodes
        given = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        for other in given:
            if isinstance(other, keras.KerasTensor):
                stack.append(other)
            elif isinstance(other, keras.Variable) or np.ndim(other):
                # It may be another one for each unit.
                return False
    return True


def is_homogeneous(activation):
    """Whether f(z * x) = z * f(x) for all z >= 0."""
    return activation is None or _in(activation, HOMOGENEOUS)


def _in(activation, known):
    try:
        return activation in known
    except TypeError:
        return False


def apply(activation, array):
    """An activation of a numpy array in float32; NaN stays NaN."""
    if activation is None:
        return array
    known = ~np.isnan(array)
    filled = ops.convert_to_tensor(np.where(known, array, 0.0), "float32")
    outputs = ops.convert_to_numpy(activation(filled))
    # Such as a large exponential: better not known than infinite.
    known &= np.isfinite(outputs)
    return np.where(known, outputs, np.nan)
