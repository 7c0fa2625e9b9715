import keras
from keras import ops

from l0keras.layers.gated_linear_layer import GatedLinearLayer


@keras.saving.register_keras_serializable("l0keras")
class L0DepthwiseConv2D(GatedLinearLayer, keras.layers.DepthwiseConv2D):
    """A `keras.layers.DepthwiseConv2D` with gates on its weights.

    With every gate at 1 it is exactly the plain layer.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 2.2; the paper has no depthwise layer, feature maps are gated as
    in its convolutions.

    Args:
        kernel_size, strides, ...: as in `keras.layers.DepthwiseConv2D`.
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

    >>> layer = L0DepthwiseConv2D(3, depth_multiplier=2, l0=1e-6)
    >>> layer(keras.ops.ones((2, 9, 9, 4))).shape
    (2, 7, 7, 8)
    """

    default_granularity = "output"
    plain_class = keras.layers.DepthwiseConv2D

    _output_axes = (-2, -1)

    def _linear(self, inputs, kernel):
        return ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
