from l0keras.models.vgg import vgg

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16(input_shape=(32, 32, 3), classes=10, **arguments):
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
