from collections.abc import Sequence

import keras
from keras.src.ops.numpy import Take

from l0keras.models.checks import blocks_of
from l0keras.models.checks import check_integer
from l0keras.models.conv_layers import ConvLayers
from l0keras.models.dep_l0 import dep_l0

_layers = keras.layers


@dep_l0(r"stem_relu|block\d_\d+_relu1")
def resnet(
    depth: int = 56,
    width: int = 16,
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    *,
    l2: float = 0.0,
    seed: int | None = None,
) -> keras.Model:
    """A residual network for small images, ResNet-56 by default.

    Three stages of (depth - 2) / 6 blocks with 1, 2 and 4 times `width`
    channels. A block is twice a 3 x 3 convolution with batch normalization,
    and ReLU between them and behind the sum with the shortcut. Shortcuts have
    no weights: where the shape changes, they take every other pixel and have
    zeros for the new channels (option A).

    ResNet-56 has 0.85 million weights and 125.5 million multiply-accumulates
    for an image of 32 x 32 pixels.

    Source: He, Zhang, Ren and Sun, CVPR 2016 (arXiv:1512.03385), section 4.2;
    the gates of Li and Ji, ECML-PKDD 2021 (arXiv:2107.00070), section 4.

    Args:
        depth: the number of weighted layers in a row, 6 n + 2.
        width: the number of channels of the first stage.
        input_shape: height, width and channels of an image.
        classes: the number of classes.
        gates: `None` for plain Keras layers, or `"paper"` for gates of
            Dep-L0 behind the ReLU of the stem and the first ReLU of each
            block; what leaves a block has none.
        l0, dependence, cost, penalty, sample_per: of the gates, see
            `l0keras.place_gates`.
        l2: weight decay, 0.5 * l2 * w^2 for each trainable weight: kernels,
            the bias of the last layer, and the scales and offsets of batch
            normalization (the paper has 1e-4, Dep-L0 5e-4).
        seed: an integer of at least 0 that fixes the initial weights.

    Returns:
        A functional model from images `(batch, *input_shape)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: an argument out of its range.
    """
    make = ConvLayers(input_shape, classes, l2, seed)
    blocks = blocks_of(depth, each=6, beyond=2)
    check_integer("width", width)
    x = make.conv_norm_relu(make.image, width, 3, "stem")
    for stage in range(3):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            name = f"block{stage + 1}_{block + 1}"
            x = _block(make, x, width * 2**stage, name, strides)
    return make.model(x, f"resnet{depth}")


def _block(make, x, filters, name, strides):
    y = make.conv_norm_relu(x, filters, 3, name, 1, strides)
    y = make.conv_norm(y, filters, 3, name, 2)
    if strides == 1:
        x = _layers.Add(name=f"{name}_add")([x, y])
    else:
        x = _layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x)
        x = _add_to_first(x, y, name)
    return _layers.ReLU(name=f"{name}_relu2")(x)


def _add_to_first(x, y, name):
    """Adds `x`, with zeros for the channels that only `y` has.

    That is, adds nothing to those channels. The channel graph follows this,
    while `keras.ops.pad` of channels would keep it from cutting any.
    """
    count, width = x.shape[-1], y.shape[-1]
    first = _channels(y, range(count), f"{name}_first")
    others = _channels(y, range(count, width), f"{name}_others")
    first = _layers.Add(name=f"{name}_add")([x, first])
    return _layers.Concatenate(name=f"{name}_concat")([first, others])


def _channels(x, indices, name):
    # `keras.ops.take`, but with a name that is the same every time.
    return Take(axis=-1, name=name)(x, list(indices))
