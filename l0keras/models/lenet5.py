import keras

from l0keras.models.gated_or_plain import LayerMaker


def lenet5(
    input_shape=(28, 28, 1),
    classes=10,
    l0=None,
    l2=0.0,
    droprate_init=0.5,
    sample_per="batch",
    seed=None,
):
    """LeNet-5-Caffe, 20-50-800-500 on 28 x 28 pixels, plain or with gates.

    Two 5 x 5 valid convolutions, each with ReLU and max pooling, then a
    dense layer of 500 units with ReLU and one that gives the logits. With
    gates, each feature map of the convolutions and each input unit of the
    dense layers has one.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 4.1; initial values as in the authors' code: He-normal weights,
    zero biases.

    Args:
        input_shape: height, width and channels of an image, at least
            16 x 16.
        classes: the number of classes.
        l0: `None` for plain Keras layers. Else the layers are gated, and this
            is the price of one weight (the paper's lambda divided by the
            number of training examples), one number or one for each of the
            four layers conv1, conv2, fc1 and fc2.
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
    if len(input_shape) != 3 or min(input_shape[:2]) < 16:
        raise ValueError(
            "Argument `input_shape` must be (height, width, channels) of at "
            "least 16 x 16 pixels, or nothing would be left behind the two "
            f"5 x 5 convolutions. Received: input_shape={tuple(input_shape)}"
        )
    make = LayerMaker(4, l0, l2, droprate_init, sample_per, seed)
    return keras.Sequential(
        [
            keras.Input(input_shape, name="image"),
            make.conv2d(20, 5, name="conv1"),
            keras.layers.MaxPooling2D(name="pool1"),
            make.conv2d(50, 5, name="conv2"),
            keras.layers.MaxPooling2D(name="pool2"),
            keras.layers.Flatten(name="flatten"),
            make.dense(500, "relu", name="fc1"),
            make.dense(classes, None, name="fc2"),
        ],
        name="lenet5",
    )
