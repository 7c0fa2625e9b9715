import keras
import numpy as np
from keras import ops

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


def is_elementwise(activation):
    """Whether each unit's activation depends on that unit alone.

    Anything but the functions of `keras.activations` counts as mixing units,
    as softmax does.
    """
    return activation is None or _in(activation, ELEMENTWISE)


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
