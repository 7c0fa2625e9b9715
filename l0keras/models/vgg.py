from collections.abc import Sequence

import keras

from l0keras.models.checks import check_integer
from l0keras.models.conv_layers import ConvLayers
from l0keras.models.dep_l0 import dep_l0

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


# In the code of the authors the chain starts alike both ways.
@dep_l0(r"block\d+_norm\d+", same_start=True)
def vgg(
    stages: Sequence[tuple[int, int]] = (
        (64, 2),
        (128, 2),
        (256, 3),
        (512, 3),
        (512, 3),
    ),
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    *,
    l2: float = 0.0,
    seed: int | None = None,
    name: str = "vgg",
) -> keras.Model:
    """Stages of 3 x 3 convolutions with max pooling behind each.

    Each convolution has batch normalization, which takes the place of its
    bias, and ReLU. The mean over what is left behind the last stage goes into
    a dense layer. The default stages are those of `vgg16`.

    Source: Simonyan and Zisserman, ICLR 2015 (arXiv:1409.1556), table 1;
    for CIFAR as in Li and Ji, ECML-PKDD 2021 (arXiv:2107.00070), section 4.

    Args:
        stages: for each stage the number of channels and the number of
            convolutions.
        input_shape: height, width and channels of an image; each stage halves
            height and width, and has to leave one pixel.
        classes: the number of classes.
        gates: `None` for plain Keras layers, or `"paper"` for gates of
            Dep-L0 between each normalization and its ReLU.
        l0, dependence, cost, penalty, sample_per: of the gates, see
            `l0keras.place_gates`.
        l2: weight decay, 0.5 * l2 * w^2 for each trainable weight: kernels,
            the bias of the last layer, and the scales and offsets of batch
            normalization.
        seed: an integer of at least 0 that fixes the initial weights.
        name: the name of the model.

    Returns:
        A functional model from images `(batch, *input_shape)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: an argument out of its range.
    """
    stages = tuple(tuple(stage) for stage in stages)
    if not stages or any(len(stage) != 2 for stage in stages):
        raise ValueError(
            "Argument `stages` must have at least one stage, and of each the "
            "number of channels and the number of convolutions. "
            f"Received: stages={stages}"
        )
    for stage in stages:
        for number in stage:
            check_integer("stages", number)
    make = ConvLayers(input_shape, classes, l2, seed, smallest=2 ** len(stages))
    x = make.image
    for stage, (filters, count) in enumerate(stages, start=1):
        for index in range(1, count + 1):
            x = make.conv_norm_relu(x, filters, 3, f"block{stage}", index)
        x = keras.layers.MaxPooling2D(name=f"block{stage}_pool")(x)
    return make.model(x, name)


def vgg16(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    **arguments,
) -> keras.Model:
    """VGG16 for small images: batch normalization, and one dense layer.

    Thirteen 3 x 3 convolutions with 64, 128, 256, 512 and 512 channels, each
    with batch normalization and ReLU, and max pooling behind each of the five
    stages. The mean over what is left (one position of 32 x 32 pixels) goes
    into a dense layer. The convolutions have no bias, which batch
    normalization would take away again.

    It has 14.72 million weights and 313.2 million multiply-accumulates for an
    image of 32 x 32 pixels.

    Source: Simonyan and Zisserman, ICLR 2015 (arXiv:1409.1556), table 1, D;
    for CIFAR as in Li and Ji, ECML-PKDD 2021 (arXiv:2107.00070), section 4.

    Args:
        input_shape: height, width and channels of an image, at least
            32 x 32.
        classes: the number of classes.
        **arguments: `gates`, `l0`, `dependence`, `cost`, `penalty`,
            `sample_per`, `l2` and `seed` as in `vgg`. The gates stand behind
            each normalization, before ReLU.

    Returns:
        A functional model from images `(batch, *input_shape)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: an argument out of its range.
    """
    return vgg(_STAGES, input_shape, classes, name="vgg16", **arguments)
