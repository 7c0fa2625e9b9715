import keras
from keras import ops

from l0keras.layers.gated_linear_layer import GatedLinearLayer


@keras.saving.register_keras_serializable("l0keras")
class L0Conv2DTranspose(GatedLinearLayer, keras.layers.Conv2DTranspose):
    """A `keras.layers.Conv2DTranspose` with gates on its weights.

    With every gate at 1 it is exactly the plain layer.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 2.2; the paper has no transposed convolution, feature maps are
    gated as in its convolutions.

    Args:
        filters, kernel_size, strides, ...: as in
            `keras.layers.Conv2DTranspose`.
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

    Input shape: `(batch, height, width, channels)`, or with the channels
        second where `data_format="channels_first"`.

    Output shape: that of the plain layer.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> layer = L0Conv2DTranspose(8, 3, strides=2, l0=1e-6)
    >>> layer(keras.ops.ones((2, 7, 7, 4))).shape
    (2, 15, 15, 8)
    """

    default_granularity = "output"
    plain_class = keras.layers.Conv2DTranspose
    # The kernel is that of the convolution whose gradient this layer is.
    _input_axes = (-1,)
    _output_axes = (-2,)

    def _linear(self, inputs, kernel):
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
