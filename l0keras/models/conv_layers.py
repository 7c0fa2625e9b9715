import keras
import numpy as np

from l0keras.layers import L0Conv2D
from l0keras.models.checks import check_integer
from l0keras.models.checks import check_l2

_layers = keras.layers


class ConvLayers:
    """Makes a convolutional network: its input, its layers and the model.

    Args:
        input_shape: height, width and channels of an image.
        classes: the number of classes.
        l2: weight decay, 0.5 * l2 * w^2 for each weight.
        seed: an integer, or `None`; every layer gets another seed from it.
        smallest: the height and width that an image has to have at least.

    Attributes:
        image: the input, a `KerasTensor`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, input_shape, classes, l2, seed, smallest=1):
        check_l2(l2)
        if seed is not None:
            check_integer("seed", seed, at_least=0)
        check_integer("classes", classes)
        shape = tuple(input_shape)
        integers = all(isinstance(size, int) and size > 0 for size in shape)
        if len(shape) != 3 or not integers or min(shape[:2]) < smallest:
            raise ValueError(
                "Argument `input_shape` must be (height, width, channels) of "
                f"at least {smallest} x {smallest} pixels. "
                f"Received: input_shape={input_shape}"
            )
        self._classes = classes
        self._decay = keras.regularizers.L2(0.5 * l2) if l2 else None
        self._seed = seed
        self._seeds = 0
        self.image = keras.Input(shape, name="image")

    def next_seed(self):
        self._seeds += 1
        return seed_of(self._seed, self._seeds)

    def conv(self, x, filters, size, name, strides=1, gates=None):
        """A convolution without bias that keeps the middle of each window.

        With strides, same padding would put the windows one pixel off those
        of a shortcut that reads every other pixel.

        `gates` are the arguments of `L0Conv2D` beyond those of `Conv2D`, if
        the feature maps are to have any. Its decay is among them.
        """
        padding = "same"
        if strides > 1:
            padding = "valid"
            if size > 1:
                x = _layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        seed = self.next_seed()
        layer, arguments = _layers.Conv2D, {"kernel_regularizer": self._decay}
        if gates is not None:
            layer, arguments = L0Conv2D, {"seed": seed, **gates}
        return layer(
            filters,
            size,
            strides,
            padding,
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(seed),
            name=name,
            **arguments,
        )(x)

    def depthwise(self, x, size, name, strides=1):
        """A depthwise convolution without bias and without weight decay."""
        # What Keras calls the fan out of such a kernel is its fan in.
        initializer = keras.initializers.VarianceScaling(
            2.0, "fan_out", "truncated_normal", self.next_seed()
        )
        return _layers.DepthwiseConv2D(
            size,
            strides,
            "same",
            use_bias=False,
            depthwise_initializer=initializer,
            name=name,
        )(x)

    def norm(self, x, name):
        return _layers.BatchNormalization(
            momentum=0.9,
            epsilon=1e-5,
            beta_regularizer=self._decay,
            gamma_regularizer=self._decay,
            name=name,
        )(x)

    def norm_relu(self, x, name, index=""):
        x = self.norm(x, f"{name}_norm{index}")
        return _layers.ReLU(name=f"{name}_relu{index}")(x)

    def conv_norm(self, x, filters, size, name, index="", strides=1):
        x = self.conv(x, filters, size, f"{name}_conv{index}", strides)
        return self.norm(x, f"{name}_norm{index}")

    def conv_norm_relu(self, x, filters, size, name, index="", strides=1):
        x = self.conv_norm(x, filters, size, name, index, strides)
        return _layers.ReLU(name=f"{name}_relu{index}")(x)

    def model(self, x, name):
        """The network whose last layer reads the means over all positions."""
        x = _layers.GlobalAveragePooling2D(name="pool")(x)
        logits = _layers.Dense(
            self._classes,
            kernel_initializer=keras.initializers.HeNormal(self.next_seed()),
            kernel_regularizer=self._decay,
            bias_regularizer=self._decay,
            name="logits",
        )(x)
        return keras.Model(self.image, logits, name=name)


def seed_of(seed, index):
    """The seed that follows from another one for the part of an index."""
    if seed is None:
        return None
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0] >> 1)
