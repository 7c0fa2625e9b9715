import keras
import numpy as np

_layers = keras.layers


class ConvLayers:
    """Makes the layers of a plain convolutional network and applies them.

    Args:
        l2: weight decay, 0.5 * l2 * w^2 for each weight.
        seed: an integer, or `None`; every layer gets another seed from it.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, l2, seed):
        if not l2 >= 0:
            raise ValueError(
                f"Argument `l2` must be at least 0. Received: l2={l2}"
            )
        if seed is not None:
            check_integer("seed", seed, at_least=0)
        self._decay = keras.regularizers.L2(0.5 * l2) if l2 else None
        self._seed = seed
        self._seeds = 0

    def next_seed(self):
        if self._seed is None:
            return None
        self._seeds += 1
        sequence = np.random.SeedSequence((self._seed, self._seeds))
        return int(sequence.generate_state(1)[0] >> 1)

    def conv(self, x, filters, size, name, strides=1):
        """A convolution without bias that keeps the middle of each window.

        With strides, same padding would put the windows one pixel off those
        of a shortcut that reads every other pixel.
        """
        padding = "same"
        if strides > 1:
            padding = "valid"
            if size > 1:
                x = _layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return _layers.Conv2D(
            filters,
            size,
            strides,
            padding,
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(self.next_seed()),
            kernel_regularizer=self._decay,
            name=name,
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

    def logits(self, x, classes):
        """Means over all positions, then a dense layer."""
        x = _layers.GlobalAveragePooling2D(name="pool")(x)
        return _layers.Dense(
            classes,
            kernel_initializer=keras.initializers.HeNormal(self.next_seed()),
            kernel_regularizer=self._decay,
            bias_regularizer=self._decay,
            name="logits",
        )(x)


def image_input(input_shape, smallest=1):
    """The input of a network, after a look at its shape."""
    shape = tuple(input_shape)
    integers = all(isinstance(size, int) and size > 0 for size in shape)
    if len(shape) != 3 or not integers or min(shape[:2]) < smallest:
        raise ValueError(
            "Argument `input_shape` must be (height, width, channels) of at "
            f"least {smallest} x {smallest} pixels. "
            f"Received: input_shape={input_shape}"
        )
    return keras.Input(shape, name="image")


def check_integer(name, value, at_least=1):
    if not isinstance(value, int) or value < at_least:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least {at_least}. "
            f"Received: {name}={value}"
        )


def check_dropout(dropout):
    if not 0 <= dropout < 1:
        raise ValueError(
            "Argument `dropout` must be at least 0 and less than 1. "
            f"Received: dropout={dropout}"
        )


def blocks_of(depth, each, beyond):
    """How many blocks each of three stages has, in a network of a depth.

    `each` is what one more block in each stage adds to the depth.
    """
    blocks, rest = divmod(depth - beyond, each)
    if not isinstance(depth, int) or rest or blocks < 1:
        raise ValueError(
            f"Argument `depth` must be {each} n + {beyond} with n = 1, 2, ... "
            f"Received: depth={depth}"
        )
    return blocks
