"""Recurrent layers as LiteRT takes them."""

import contextlib

import keras


@contextlib.contextmanager
def unrolled(layers):
    """Lets recurrent layers repeat their operations instead of looping.

    LiteRT has loops for fixed batch sizes and floats only. Layers whose number
    of steps is free go on looping. All are as they were afterwards.

    Args:
        layers: a list of Keras 3 layers.
    """
    changed = [layer for layer in layers if _loops(layer) and _steps(layer)]
    try:
        for layer in changed:
            layer.unroll = True
        yield
    finally:
        for layer in changed:
            layer.unroll = False


def endless(layers):
    """The names of recurrent layers that cannot be unrolled.

    Args:
        layers: a list of Keras 3 layers.
    """
    return [
        layer.name for layer in layers if _loops(layer) and not _steps(layer)
    ]


def _loops(layer):
    return isinstance(layer, keras.layers.RNN) and not layer.unroll


def _steps(layer):
    """The number of steps, or `None` where it is free."""
    config = layer.get_build_config()
    shape = (
        config.get("input_shape") or config["shapes_dict"]["sequences_shape"]
    )
    return shape[1]
