"""Kernels that tfmot prunes or clusters while a tf_keras model trains."""

import numpy as np

from l0keras.export.bridge.tfmot import import_tf_keras

# The weights that tfmot prunes or clusters, by layer type.
KERNELS = {
    "Conv1D": ["kernel"],
    "Conv2D": ["kernel"],
    "Conv2DTranspose": ["kernel"],
    "Conv3D": ["kernel"],
    "Conv3DTranspose": ["kernel"],
    "Dense": ["kernel"],
    "Embedding": ["embeddings"],
    "SeparableConv1D": ["pointwise_kernel"],
    "SeparableConv2D": ["pointwise_kernel"],
}


def wrap(model, wrapper):
    """Clones a model with its trainable layers that have a kernel wrapped.

    Args:
        model: a `tf_keras.Model`. Its layers become part of the clone, so it
            must not be used again.
        wrapper: a function from a layer to the wrapped layer.

    Raises:
        ValueError: the model has no such layer.
    """
    found = [layer for layer in model.layers if _has_kernel(layer)]
    if not found:
        raise ValueError(
            "Argument `model` must have a trainable layer of a type among "
            f"{sorted(KERNELS)}. Received: model '{model.name}' without one"
        )

    def clone(layer):
        return wrapper(layer) if _has_kernel(layer) else layer

    return import_tf_keras().models.clone_model(model, clone_function=clone)


def kernels(model):
    """The kernels of the layers that `wrap` wraps: arrays by layer name."""
    return {
        layer.name: np.array(getattr(layer, name).numpy())
        for layer in model.layers
        if _has_kernel(layer)
        for name in KERNELS[type(layer).__name__]
    }


def _has_kernel(layer):
    return layer.trainable and type(layer).__name__ in KERNELS
