"""Layers of Keras 3 in tf_keras: a table of changes by layer type."""

import warnings

import keras
import numpy as np

from l0keras.export.bridge.tfmot import import_tf_keras
from l0keras.export.bridge.translate import Refused
from l0keras.export.bridge.translate import activation
from l0keras.export.bridge.translate import known_only
from l0keras.export.bridge.translate import same_kind
from l0keras.graph.trace import is_functional

# Layers whose configuration and weights mean the same in both.
SAME = {
    *("Activation", "ActivityRegularization", "Add", "AdditiveAttention"),
    *("AlphaDropout", "Attention", "Average", "CenterCrop", "Concatenate"),
    *("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Dense", "DepthwiseConv1D"),
    *("DepthwiseConv2D", "Dot", "Dropout", "EinsumDense", "ELU"),
    *("Embedding", "Flatten", "GRU", "GRUCell", "GaussianDropout"),
    *("GaussianNoise", "GroupNormalization", "Identity", "LSTM", "LSTMCell"),
    *("LayerNormalization", "Masking", "Maximum", "Minimum", "Multiply"),
    *("MultiHeadAttention", "PReLU", "Permute", "ReLU", "RepeatVector"),
    *("Rescaling", "Reshape", "Resizing", "SeparableConv1D"),
    *("SeparableConv2D", "SimpleRNN", "SimpleRNNCell", "Softmax"),
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    *("Subtract", "UnitNormalization"),
    *(
        f"{name}{rank}D"
        for rank in (1, 2, 3)
        for name in (
            *("AveragePooling", "Cropping", "GlobalAveragePooling"),
            *("GlobalMaxPooling", "MaxPooling", "UpSampling", "ZeroPadding"),
        )
    ),
    *("Conv1D", "Conv2D", "Conv3D"),
    *("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
}


def adapt(layer, convert):
    """Finds the tf_keras equivalent of a layer.

    Args:
        layer: a Keras 3 layer that is built.
        convert: a function from a Keras 3 model to a tf_keras model, for
            models inside of layers.

    Returns:
        A function from a name to a new layer of tf_keras without weights.

    Raises:
        Refused: the layer has no equivalent.
    """
    kind = type(layer)
    name = kind.__name__
    if getattr(keras.layers, name, None) is not kind:
        raise Refused("it is not a layer of Keras")
    if name not in SAME and name not in _CHANGED:
        raise Refused("tf_keras has no such layer, or one that differs")
    theirs = getattr(import_tf_keras().layers, name)
    with warnings.catch_warnings():
        # Keras warns of functions in it that cannot be loaded.
        warnings.simplefilter("ignore")
        config = dict(layer.get_config())
    config["dtype"] = _dtype(layer)
    if config.pop("stateful", False):
        raise Refused("it keeps states from batch to batch")
    for key in list(config):
        if key.endswith("_initializer"):
            # The weights are copied.
            del config[key]
        elif key.endswith("activation"):
            config[key] = activation(_read(keras.activations, config, key))
        elif key.endswith("_regularizer"):
            thing = _read(keras.regularizers, config, key)
            config[key] = same_kind(thing, "regularizers")
        elif key.endswith("_constraint"):
            thing = _read(keras.constraints, config, key)
            config[key] = same_kind(thing, "constraints")
    inner = {}
    if name in _CHANGED:
        inner = _CHANGED[name](layer, config, convert) or {}
    config = known_only(config, kind, theirs)
    config.pop("name", None)

    def make(name):
        made = {key: _made(value) for key, value in inner.items()}
        return theirs(**config, **made, name=name)

    return make


def _read(module, config, key):
    try:
        return module.get(config[key])
    except (TypeError, ValueError) as error:
        raise Refused(f"its {key} cannot be read: {config[key]!r}") from error


def _dtype(layer):
    policy = layer.dtype_policy
    if type(policy) is not keras.DTypePolicy:
        raise Refused(f"tf_keras has no dtype policy like {policy!r}")
    return policy.name


def _made(value):
    """Makes new inner layers, because each outer layer needs its own."""
    if isinstance(value, list):
        return [_made(element) for element in value]
    return value()


def _inner(layer, convert):
    if is_functional(layer):
        try:
            convert(layer)
        except ValueError as error:
            raise Refused(f"of the model inside it: {error}") from error
        return lambda: convert(layer)
    try:
        make = adapt(layer, convert)
    except Refused as refusal:
        kind = type(layer).__name__
        raise Refused(f"of the {kind} inside it {refusal}") from refusal
    name = layer.name
    # `Bidirectional` of tf_keras adds these prefixes itself.
    for prefix in ("forward_", "backward_"):
        name = name.removeprefix(prefix)
    return lambda: make(name)


def _leaky_relu(layer, config, convert):
    config["alpha"] = config.pop("negative_slope")


def _batch_normalization(layer, config, convert):
    # The fused kernel rounds in another way than Keras 3, and it enlarges a
    # small epsilon.
    config["fused"] = False


def _normalization(layer, config, convert):
    shape = layer._mean_and_var_shape
    for key in ("mean", "variance"):
        value = keras.ops.convert_to_numpy(getattr(layer, key))
        config[key] = np.reshape(value, shape)


def _bidirectional(layer, config, convert):
    del config["layer"]
    config.pop("backward_layer", None)
    return {
        "layer": _inner(layer.forward_layer, convert),
        "backward_layer": _inner(layer.backward_layer, convert),
    }


def _time_distributed(layer, config, convert):
    del config["layer"]
    return {"layer": _inner(layer.layer, convert)}


def _rnn(layer, config, convert):
    del config["cell"]
    return {"cell": _inner(layer.cell, convert)}


def _stacked(layer, config, convert):
    del config["cells"]
    return {"cells": [_inner(cell, convert) for cell in layer.cells]}


_CHANGED = {
    "BatchNormalization": _batch_normalization,
    "Bidirectional": _bidirectional,
    "LeakyReLU": _leaky_relu,
    "Normalization": _normalization,
    "RNN": _rnn,
    "StackedRNNCells": _stacked,
    "TimeDistributed": _time_distributed,
}
