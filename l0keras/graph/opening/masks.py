"""Masks that ride on tensors, from a layer of Keras to the next.

Layers find them on what they are called with, and hand them on. Ops do not. So
what is made of ops inside of a layer ends a mask that the layer hands on.
"""

import keras
from keras.src.backend import get_keras_mask

from l0keras.graph.opening.closed import Closed
from l0keras.graph.opening.inputs import riding_masks
from l0keras.graph.opening.may_open import is_functional
from l0keras.graph.opening.may_open import may_open

# Layers that look for masks on their inputs themselves.
_LOOK = (
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.MultiHeadAttention,
    keras.layers.Multiply,
)


def tensors_to_open(call, given=None):
    """The tensors that a call depends on, and its inside, if it has one.

    Args:
        call: the call.
        given: tensors in the place of those that it is called with.
    """
    given = call.input_tensors if given is None else given
    return [*given, *(riding_masks(call) if may_open(call.operation) else ())]


def takes_masks_off(layer):
    """Whether a layer may take the masks off what it is called with.

    Attention does so when it runs, and not where it is traced.
    """
    return any(
        isinstance(inner, keras.layers.MultiHeadAttention)
        for inner in layer._flatten_layers()
    )


def lost_masks(call, inside):
    """The outputs of a call that carry a mask, and in its inside do not.

    Args:
        call: a node of Keras.
        inside: its `Inside`.

    Returns:
        A list of those of the call's output tensors.
    """
    return [
        outer
        for outer, own in zip(call.outputs, inside.outputs, strict=True)
        if get_keras_mask(outer) is not None and get_keras_mask(own) is None
    ]


def reader_of_masks(tensors, inside, open_call):
    """Finds out what goes by the masks that ride on tensors.

    A mask that Keras noted as an argument of a call is a tensor of its own,
    and need not ride.

    Args:
        tensors: a list of `KerasTensor`.
        inside: an `Inside` with all calls that the tensors may go to.
        open_call: gives the `Inside` of a call, or raises `Closed`.

    Returns:
        What reads a mask, as a text, or `None`.
    """
    masked = {id(tensor) for tensor in tensors}
    reader = _follow(masked, inside, open_call)
    if reader is None and any(id(x) in masked for x in inside.outputs):
        # Keras leaves masked positions out of the loss.
        return "the loss"
    return reader


def _follow(masked, inside, open_call):
    """As `reader_of_masks`; adds the ids of all that the masks ride on."""
    for call in inside.calls:
        layer = call.operation
        given = [id(tensor) in masked for tensor in call.input_tensors]
        if not any(given):
            continue
        inner = set()
        if not may_open(layer):
            if isinstance(layer, keras.Layer) and _looks(call):
                return f"'{layer.name}'"
        else:
            try:
                found = open_call(call)
            except Closed:
                return f"'{layer.name}'"
            inner.update(
                id(tensor)
                for tensor, rides in zip(found.inputs, given)
                if rides
            )
            reader = _follow(inner, found, open_call)
            if reader is not None:
                return reader
        masked.update(
            id(tensor)
            for tensor in call.outputs
            if get_keras_mask(tensor) is not None
        )
        # Of those Keras does not tell, but layers inside of them hand on.
        if is_functional(layer):
            masked.update(
                id(tensor)
                for tensor, own in zip(call.outputs, found.outputs, strict=True)
                if id(own) in inner
            )
    return None


def _looks(call):
    """Whether a layer of Keras looks for masks on its inputs."""
    if isinstance(call.operation, _LOOK):
        return True
    kwargs = call.arguments.kwargs
    return any(
        (name == "mask" or name.endswith("_mask"))
        # Which is of pairs of positions, and never rides.
        and name != "attention_mask"
        and kwargs.get(name) is None
        for name in call.operation.call_signature_parameters
    )
