"""Which layers are opened, if it is possible."""

import keras
from keras.src.models.functional import Functional

from l0keras.graph.opening import lifting
from l0keras.graph.opening.calls import training_of
from l0keras.graph.rules.elementwise import Identity
from l0keras.graph.rules.table import rule_for


def may_open(layer):
    """Whether a layer is one to be opened, if that is possible."""
    if is_functional(layer):
        return True
    if type(layer) is keras.layers.TimeDistributed:
        return may_open(layer.layer)
    if not isinstance(layer, keras.Layer) or rule_for(type(layer)):
        return False
    place = type(layer).__module__.partition(".")[0]
    own = place not in ("keras", "l0keras")
    return own or type(layer) is keras.layers.Lambda


def is_functional(model):
    """Whether a model is a graph of Keras, with its `call`."""
    return isinstance(model, (Functional, keras.Sequential)) and type(
        model
    ).call in (Functional.call, keras.Sequential.call)


def does_nothing(call):
    """Whether a call hands on its input, in training as at test time."""
    rule = rule_for(type(call.operation))
    return isinstance(rule, Identity) and training_of(call) is False


def reason_to_stay(layer):
    """Why a layer is not to be opened, whatever its `call` does, or `None`."""
    if layer._seed_generators:
        return "draws random numbers of its own"
    if getattr(layer, "quantization_mode", None):
        return f"quantized to {layer.quantization_mode}"
    if layer.activity_regularizer is not None:
        return "has an activity regularizer of its own"
    return lifting.refuses(layer)
