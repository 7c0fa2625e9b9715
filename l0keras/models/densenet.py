from collections.abc import Sequence

import keras

from l0keras.models.checks import blocks_of
from l0keras.models.checks import check_dropout
from l0keras.models.checks import check_integer
from l0keras.models.conv_layers import ConvLayers

_layers = keras.layers


def densenet(
    depth: int = 40,
    growth_rate: int = 12,
    dropout: float = 0.0,
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    l2: float = 0.0,
    seed: int | None = None,
) -> keras.Model:
    """A densely connected network, DenseNet-40 by default.

    Three stages of (depth - 4) / 3 layers. A layer is batch normalization,
    ReLU and a 3 x 3 convolution of all channels so far, whose `growth_rate`
    channels are put beside them. Between stages there are batch
    normalization, ReLU, a 1 x 1 convolution that keeps the number of
    channels, and average pooling. Without bottleneck and compression.

    DenseNet-40 with growth rate 12 has 1.0 million weights and 265 million
    multiply-accumulates for an image of 32 x 32 pixels.

    Source: Huang, Liu, van der Maaten and Weinberger, CVPR 2017
    (arXiv:1608.06993), sections 3 and 4.2 and table 2.

    Args:
        depth: the number of weighted layers in a row, 3 n + 4.
        growth_rate: the number k of channels that each layer adds.
        dropout: the share of activations dropped behind each convolution
            but the first, in [0, 1); the paper has 0.2 for data that are not
            augmented.
        input_shape: height, width and channels of an image, at least 4 x 4.
        classes: the number of classes.
        l2: weight decay, 0.5 * l2 * w^2 for each trainable weight: kernels,
            the bias of the last layer, and the scales and offsets of batch
            normalization, as in the paper (there 1e-4).
        seed: an integer of at least 0 that fixes the initial weights and the
            noise of dropout.

    Returns:
        A functional model from images `(batch, *input_shape)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: an argument out of its range.
    """
    make = ConvLayers(input_shape, classes, l2, seed, smallest=4)
    count = blocks_of(depth, each=3, beyond=4)
    check_integer("growth_rate", growth_rate)
    check_dropout(dropout)

    def norm_relu_conv(x, filters, size, name):
        x = make.norm_relu(x, name)
        x = make.conv(x, filters, size, f"{name}_conv")
        if not dropout:
            return x
        seed = make.next_seed()
        return _layers.Dropout(dropout, seed=seed, name=f"{name}_dropout")(x)

    x = make.conv(make.image, 16, 3, "stem_conv")
    for stage in range(1, 4):
        for index in range(1, count + 1):
            name = f"block{stage}_{index}"
            y = norm_relu_conv(x, growth_rate, 3, name)
            x = _layers.Concatenate(name=f"{name}_concat")([x, y])
        if stage < 3:
            name = f"transition{stage}"
            x = norm_relu_conv(x, x.shape[-1], 1, name)
            x = _layers.AveragePooling2D(2, name=f"{name}_pool")(x)
    x = make.norm_relu(x, "last")
    return make.model(x, f"densenet{depth}_{growth_rate}")
