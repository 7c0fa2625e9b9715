"""Layers whose units or heads only gates inside of them can close."""

import keras

from l0keras import layers
from l0keras.copying import Copier
from l0keras.copying import live_arguments
from l0keras.graph.bake_recurrent import layers_inside

_GATED = {
    keras.layers.ConvLSTM1D: layers.L0ConvLSTM1D,
    keras.layers.ConvLSTM2D: layers.L0ConvLSTM2D,
    keras.layers.ConvLSTM3D: layers.L0ConvLSTM3D,
    keras.layers.GRU: layers.L0GRU,
    keras.layers.LSTM: layers.L0LSTM,
    keras.layers.MultiHeadAttention: layers.L0MultiHeadAttention,
    keras.layers.SimpleRNN: layers.L0SimpleRNN,
    # By its name: KerasHub need not be installed. Where nothing is cached it
    # is the layer of Keras.
    (
        "keras_hub.src.layers.modeling.cached_multi_head_attention."
        "CachedMultiHeadAttention"
    ): layers.L0MultiHeadAttention,
}
# `RNN` around one of these is the same as a layer of its own.
_BY_CELL = {
    keras.layers.GRUCell: layers.L0GRU,
    keras.layers.LSTMCell: layers.L0LSTM,
    keras.layers.SimpleRNNCell: layers.L0SimpleRNN,
}
# What of an `RNN` its cell has too.
_OF_LAYER = ("name", "dtype", "trainable")


def takes_gates(layer):
    """Whether `with_gates` knows a gated layer for this one."""
    inside = layers_inside(layer)
    if inside:
        return all(is_recurrent(one) and takes_gates(one) for one in inside)
    return _class(layer) is not None


def is_recurrent(layer):
    """Whether units of a layer read what it makes, at another step."""
    return isinstance(layer, keras.layers.RNN) or any(
        map(is_recurrent, layers_inside(layer))
    )


def with_gates(layer, name, arguments):
    """A layer that is not built, with gates inside, in place of another.

    Args:
        layer: one that `takes_gates`.
        name: the name of the new layer.
        arguments: those of the gates, a dictionary.
    """
    inside = layers_inside(layer)
    if not inside:
        return _class(layer)(**{**_arguments(layer), **arguments, "name": name})
    copier = Copier()
    for number, inner in enumerate(inside):
        own = dict(arguments)
        if own.get("seed") is not None:
            # Each direction draws for itself.
            own["seed"] += 1_000_003 * number
        copier.replace(inner, with_gates(inner, inner.name, own))
    new = copier.layer(layer, name)
    new.built = False
    new._tracker.unlock()
    return new


def fill(layer, source):
    """Gives a layer `with_gates` that was built the weights of the original."""
    inside = layers_inside(source)
    if inside:
        for inner, original in zip(layers_inside(layer), inside, strict=True):
            fill(inner, original)
        return
    gate = layer.gate.variables if layer.gate else []
    own = [w for w in layer.weights if not any(w is v for v in gate)]
    for variable, weight in zip(own, source.weights, strict=True):
        variable.assign(weight)
    layer.trainable = source.trainable
    if isinstance(source, keras.layers.RNN):
        layer.cell.trainable = source.cell.trainable


def _class(layer):
    if type(layer) is not keras.layers.RNN:
        kind = type(layer)
        name = f"{kind.__module__}.{kind.__qualname__}"
        return _GATED.get(kind, _GATED.get(name))
    return _BY_CELL.get(type(layer.cell))


def _arguments(layer):
    arguments = live_arguments(layer)
    if not isinstance(layer, keras.layers.RNN):
        return arguments
    if type(layer) is keras.layers.RNN:
        del arguments["cell"]
        for key, value in live_arguments(layer.cell).items():
            if key not in _OF_LAYER:
                arguments[key] = value
    # What Keras leaves out of configurations.
    for thing, name in ((layer, "use_cudnn"), (layer.cell, "implementation")):
        if hasattr(thing, name):
            arguments[name] = getattr(thing, name)
    return arguments
