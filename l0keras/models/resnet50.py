from collections.abc import Sequence

import keras

from l0keras.models.conv_layers import ConvLayers
from l0keras.models.dep_l0 import dep_l0

_layers = keras.layers
_FILTERS = 64
_BLOCKS = (3, 4, 6, 3)


@dep_l0(r"stem_relu|block\d_\d+_norm[12]")
def resnet50(
    input_shape: Sequence[int] = (224, 224, 3),
    classes: int = 1000,
    *,
    l2: float = 0.0,
    seed: int | None = None,
) -> keras.Model:
    """ResNet-50, with the strides in the 3 x 3 convolutions.

    A 7 x 7 convolution and max pooling, both with stride 2, then four stages
    of 3, 4, 6 and 3 blocks with 256, 512, 1024 and 2048 channels. A block is
    a 1 x 1, a 3 x 3 and a 1 x 1 convolution, the first two with a quarter of
    the channels, each with batch normalization; the shortcut of each stage's
    first block is a 1 x 1 convolution with batch normalization.

    It has 25.6 million weights and 4.09 billion multiply-accumulates for an
    image of 224 x 224 pixels. The paper strides in the first 1 x 1
    convolution; the codes that are compared with since stride in the 3 x 3.

    Source: He, Zhang, Ren and Sun, CVPR 2016 (arXiv:1512.03385), table 1;
    the gates of Li and Ji, ECML-PKDD 2021 (arXiv:2107.00070), section 4.

    Args:
        input_shape: height, width and channels of an image.
        classes: the number of classes.
        gates: `None` for plain Keras layers, or `"paper"` for gates of
            Dep-L0 behind the ReLU of the stem and the first two
            normalizations of each block; what leaves a block has none.
        l0, dependence, cost, penalty, sample_per: of the gates, see
            `l0keras.place_gates`.
        l2: weight decay, 0.5 * l2 * w^2 for each trainable weight: kernels,
            the bias of the last layer, and the scales and offsets of batch
            normalization (the paper and Dep-L0 have 1e-4).
        seed: an integer of at least 0 that fixes the initial weights.

    Returns:
        A functional model from images `(batch, *input_shape)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: an argument out of its range.
    """
    make = ConvLayers(input_shape, classes, l2, seed)
    x = make.conv_norm_relu(make.image, _FILTERS, 7, "stem", strides=2)
    # Behind ReLU, zeros around change no maximum.
    x = _layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = _layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for stage, blocks in enumerate(_BLOCKS):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            name = f"block{stage + 1}_{block + 1}"
            x = _block(make, x, _FILTERS * 2**stage, name, strides)
    return make.model(x, "resnet50")


def _block(make, x, filters, name, strides):
    y = make.conv_norm_relu(x, filters, 1, name, 1)
    y = make.conv_norm_relu(y, filters, 3, name, 2, strides)
    y = make.conv_norm(y, 4 * filters, 1, name, 3)
    if x.shape[-1] != 4 * filters:
        x = make.conv_norm(x, 4 * filters, 1, f"{name}_shortcut", "", strides)
    x = _layers.Add(name=f"{name}_add")([x, y])
    return _layers.ReLU(name=f"{name}_relu3")(x)
