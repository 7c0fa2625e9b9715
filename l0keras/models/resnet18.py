from collections.abc import Sequence

import keras

from l0keras.models.conv_layers import ConvLayers

_layers = keras.layers
_FILTERS = 64


def resnet18(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    l2: float = 0.0,
    seed: int | None = None,
) -> keras.Model:
    """ResNet-18 with a stem for small images.

    Four stages of two blocks with 64, 128, 256 and 512 channels. A block is
    twice a 3 x 3 convolution with batch normalization, and ReLU between them
    and behind the sum with the shortcut, which is a 1 x 1 convolution with
    batch normalization where the shape changes. In front of them, a 3 x 3
    convolution without stride and no pooling.

    It has 11.17 million weights and 555 million multiply-accumulates for an
    image of 32 x 32 pixels.

    Source: He, Zhang, Ren and Sun, CVPR 2016 (arXiv:1512.03385), table 1; for
    CIFAR as in Refael, Arbel and Huleihel, TMLR 2024 (arXiv:2212.12921).

    Args:
        input_shape: height, width and channels of an image.
        classes: the number of classes.
        l2: weight decay, 0.5 * l2 * w^2 for each trainable weight: kernels,
            the bias of the last layer, and the scales and offsets of batch
            normalization.
        seed: an integer of at least 0 that fixes the initial weights.

    Returns:
        A functional model from images `(batch, *input_shape)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: an argument out of its range.
    """
    make = ConvLayers(input_shape, classes, l2, seed)
    x = make.conv_norm_relu(make.image, _FILTERS, 3, "stem")
    for stage in range(4):
        for block in range(2):
            strides = 2 if stage and not block else 1
            name = f"block{stage + 1}_{block + 1}"
            x = _block(make, x, _FILTERS * 2**stage, name, strides)
    return make.model(x, "resnet18")


def _block(make, x, filters, name, strides):
    y = make.conv_norm_relu(x, filters, 3, name, 1, strides)
    y = make.conv_norm(y, filters, 3, name, 2)
    if strides > 1:
        x = make.conv_norm(x, filters, 1, f"{name}_shortcut", "", strides)
    x = _layers.Add(name=f"{name}_add")([x, y])
    return _layers.ReLU(name=f"{name}_relu2")(x)
