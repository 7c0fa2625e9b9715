from collections.abc import Sequence

import keras

from l0keras.models.layer_maker import LayerMaker

# Of each variant the padding of the first convolution, the feature maps, the
# hidden units and the smallest side of an image.
_VARIANTS = {
    "caffe": ("valid", (20, 50), (500,), 16),
    "pytorch": ("same", (6, 16), (120, 84), 12),
}


def lenet5(
    input_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
    variant: str = "caffe",
    gates: str | None = None,
    l0: float | Sequence[float] = 0.0,
    l2: float | Sequence[float] = 0.0,
    droprate_init: float | Sequence[float] = 0.5,
    sample_per: str = "batch",
    seed: int | None = None,
) -> keras.Model:
    """LeNet-5-Caffe, 20-50-800-500 on 28 x 28 pixels, plain or with gates.

    Two 5 x 5 valid convolutions, each with ReLU and max pooling, then a
    dense layer of 500 units with ReLU and one that gives the logits. With
    gates, each feature map of the convolutions and each input unit of the
    dense layers has one.

    The variant in use with PyTorch is 6-16-400-120-84: the first convolution
    is padded so that it keeps the size of the image, and there are two hidden
    dense layers, of 120 and 84 units. It has 61,706 parameters and 416,520
    multiply-accumulates for an image of 28 x 28 pixels.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 4.1; initial values as in the authors' code: He-normal weights,
    zero biases. The other variant has the layers of LeCun, Bottou, Bengio and
    Haffner, Proceedings of the IEEE 1998, with ReLU and max pooling.

    Args:
        input_shape: height, width and channels of an image, at least 16 x 16,
            or 12 x 12 for PyTorch's variant.
        classes: the number of classes.
        variant: `"caffe"` or `"pytorch"`.
        gates: `None` for plain Keras layers, or `"paper"`.
        l0: the price of one weight behind a gate: the paper's lambda divided
            by the number of training examples; one number or one for each
            layer conv1, conv2, fc1, fc2 and, with PyTorch's, fc3.
        l2: weight decay, 0.5 * l2 * w^2 for each weight, coupled with the
            gates where there are any; one number or one for each layer.
        droprate_init: the share of gates closed at the start, in (0, 1); one
            number or one for each layer.
        sample_per: `"batch"` or `"example"`, see `HardConcreteGate`.
        seed: an integer that fixes the initial weights and the gates' noise.

    Returns:
        A built `keras.Sequential` from images `(batch, *input_shape)` to
        logits `(batch, classes)`.

    Raises:
        ValueError: an image too small for the two valid convolutions, or an
            argument out of its range.
    """
    if variant not in _VARIANTS:
        raise ValueError(
            f"Argument `variant` must be one of {', '.join(_VARIANTS)}. "
            f"Received: variant={variant}"
        )
    padding, filters, hidden, smallest = _VARIANTS[variant]
    if len(input_shape) != 3 or min(input_shape[:2]) < smallest:
        raise ValueError(
            "Argument `input_shape` must be (height, width, channels) of at "
            f"least {smallest} x {smallest} pixels, or nothing would be left "
            "behind the two 5 x 5 convolutions. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    count = len(filters) + len(hidden) + 1
    make = LayerMaker(count, gates, l0, l2, droprate_init, sample_per, seed)
    convolutions = [
        make.conv2d(filters[0], 5, "conv1", padding),
        make.conv2d(filters[1], 5, "conv2"),
    ]
    dense = [
        make.dense(units, "relu", f"fc{index}")
        for index, units in enumerate(hidden, start=1)
    ]
    return keras.Sequential(
        [
            keras.Input(input_shape, name="image"),
            convolutions[0],
            keras.layers.MaxPooling2D(name="pool1"),
            convolutions[1],
            keras.layers.MaxPooling2D(name="pool2"),
            keras.layers.Flatten(name="flatten"),
            *dense,
            make.dense(classes, None, f"fc{len(dense) + 1}"),
        ],
        name="lenet5",
    )
