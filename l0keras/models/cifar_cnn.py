from collections.abc import Sequence

import keras

from l0keras.models.conv_layers import ConvLayers

_layers = keras.layers


def cifar_cnn(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    l2: float = 0.0,
    seed: int | None = None,
) -> keras.Model:
    """The convolutional network of TensorFlow's CIFAR-10 tutorial.

    Two 5 x 5 convolutions of 64 feature maps, each with ReLU and 3 x 3 max
    pooling of stride 2, dense layers of 384 and 192 units with ReLU, and the
    logits. The tutorial trains it on crops of 24 x 24 pixels; its local
    response normalization, which has no weights, is left out. Initial weights
    are He-normal.

    Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018
    (arXiv:1711.05136), section 4, for CIFAR-10.

    Args:
        input_shape: height, width and channels of an image.
        classes: the number of classes.
        l2: weight decay, 0.5 * l2 * w^2 for each weight of the two hidden
            dense layers, which are those that the tutorial decays (by 0.004).
        seed: an integer that fixes the initial weights.

    Returns:
        A functional `keras.Model` from images `(batch, *input_shape)` to
        logits `(batch, classes)`. It has 1,756,426 parameters for images of
        32 x 32 pixels and 1,068,298 for crops of 24 x 24.

    Raises:
        ValueError: an argument out of its range.
    """
    make = ConvLayers(input_shape, classes, l2, seed)
    decay = keras.regularizers.L2(0.5 * l2) if l2 else None
    x = make.image
    for name in ("1", "2"):
        x = _layers.Conv2D(
            64,
            5,
            padding="same",
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(make.next_seed()),
            name=f"conv{name}",
        )(x)
        x = _layers.MaxPooling2D(3, 2, "same", name=f"pool{name}")(x)
    x = _layers.Flatten(name="flatten")(x)
    for name, units in (("fc1", 384), ("fc2", 192)):
        x = _layers.Dense(
            units,
            "relu",
            kernel_initializer=keras.initializers.HeNormal(make.next_seed()),
            kernel_regularizer=decay,
            name=name,
        )(x)
    logits = _layers.Dense(
        classes,
        kernel_initializer=keras.initializers.HeNormal(make.next_seed()),
        name="logits",
    )(x)
    return keras.Model(make.image, logits, name="cifar_cnn")
