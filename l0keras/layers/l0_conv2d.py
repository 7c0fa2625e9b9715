import keras

from l0keras.layers.gated_linear_layer import L0BaseConv


@keras.saving.register_keras_serializable("l0keras")
class L0Conv2D(L0BaseConv, keras.layers.Conv2D):
    """A `keras.layers.Conv2D` with hard-concrete gates on its weights.

    With every gate at 1 it is exactly the plain layer.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    sections 2.2 and 4; gates on whole feature maps are the paper's choice for
    convolutions.

    Args:
        filters, kernel_size, strides, ...: as in `keras.layers.Conv2D`.
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples.
        l2: weight decay coupled with the gates, divided likewise: the
            penalty is 0.5 * l2 * w^2 times the probability of an open gate.
        granularity: `"output"` (default): one gate for each feature map, with
            its bias; `"input"`: one for each input channel; `"weight"`: one
            for each entry of the kernel.
        droprate_init: the share of gates closed at the start, in (0, 1).
        sample_per: `"batch"` or `"example"`.
        temperature, gamma, zeta, log_alpha_limit, seed: see
            `l0keras.HardConcreteGate`.

    Input shape: `(batch, height, width, channels)`, or with the channels second
        where `data_format="channels_first"`.

    Output shape: that of the plain layer.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> layer = L0Conv2D(20, 5, activation="relu", l0=0.1 / 60_000)
    >>> layer(keras.ops.ones((2, 28, 28, 1))).shape
    (2, 24, 24, 20)
    """

    plain_class = keras.layers.Conv2D
