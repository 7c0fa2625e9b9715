"""Recurrent layers without loops, for LiteRT."""

import contextlib

import keras


@contextlib.contextmanager
def unrolled(layers):
    """Unrolls the loops of recurrent layers, within a `with` block.

    LiteRT supports loops for fixed batch sizes and floats only. A layer with a
    free number of steps keeps its loop. After the block all layers are as
    before.

    Args:
        layers: a list of layers. Only recurrent layers of Keras 3 change.
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
        layers: a list of layers. Only those of Keras 3 count.
    """
    return [
        layer.name for layer in layers if _loops(layer) and not _steps(layer)
    ]


def _loops(layer):
    return isinstance(layer, keras.layers.RNN) and not layer.unroll


def _steps(layer):
    """The number of steps, or `None` if it is free."""
    config = layer.get_build_config()
    shape = (
        config.get("input_shape") or config["shapes_dict"]["sequences_shape"]
    )
    return shape[1]
