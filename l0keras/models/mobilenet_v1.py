from collections.abc import Sequence

import keras

from l0keras.models.conv_layers import ConvLayers

# The channels and the stride of each block.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet_v1(
    alpha: float = 1.0,
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    l2: float = 0.0,
    seed: int | None = None,
) -> keras.Model:
    """MobileNet v1 with a stem for small images.

    A 3 x 3 convolution with 32 channels, without the paper's stride, then
    thirteen blocks of a 3 x 3 depthwise and a 1 x 1 convolution with 64 to
    1024 channels, all of them with batch normalization and ReLU.

    It has 3.2 million weights and 46 million multiply-accumulates for an
    image of 32 x 32 pixels.

    Source: Howard et al., 2017 (arXiv:1704.04861), table 1; for CIFAR as in
    Refael, Arbel and Huleihel, TMLR 2024 (arXiv:2212.12921).

    Args:
        alpha: the factor that all numbers of channels are multiplied by,
            rounded down; at least 1 / 32, so that each layer has a channel.
        input_shape: height, width and channels of an image.
        classes: the number of classes.
        l2: weight decay, 0.5 * l2 * w^2 for each trainable weight: kernels,
            the bias of the last layer, and the scales and offsets of batch
            normalization. Not for kernels of depthwise convolutions, which
            need "very little or no weight decay" (section 3.2).
        seed: an integer of at least 0 that fixes the initial weights.

    Returns:
        A functional model from images `(batch, *input_shape)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: an argument out of its range.
    """
    make = ConvLayers(input_shape, classes, l2, seed)
    if not alpha >= 1 / 32:
        raise ValueError(
            "Argument `alpha` must be at least 1 / 32, which leaves one "
            f"channel of the first layer. Received: alpha={alpha}"
        )
    x = make.conv_norm_relu(make.image, int(32 * alpha), 3, "stem")
    for index, (filters, strides) in enumerate(_BLOCKS, start=1):
        name = f"block{index}"
        x = make.depthwise(x, 3, f"{name}_depthwise", strides)
        x = make.norm_relu(x, name, 1)
        x = make.conv_norm_relu(x, int(filters * alpha), 1, name, 2)
    return make.model(x, "mobilenet_v1")
