import keras
from keras import ops

from l0keras.layers.gated_linear_layer import GatedLinearLayer
from l0keras.layers.gated_weight import GatedWeight


@keras.saving.register_keras_serializable("l0keras")
class L0SeparableConv2D(GatedLinearLayer, keras.layers.SeparableConv2D):
    """A `keras.layers.SeparableConv2D` with gates on its weights.

    With every gate at 1 it is exactly the plain layer.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 2.2; the paper has no separable convolution, feature maps are
    gated as in its convolutions.

    Args:
        filters, kernel_size, strides, ...: as in
            `keras.layers.SeparableConv2D`.
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples.
        l2: weight decay coupled with the gates, divided likewise: the
            penalty is 0.5 * l2 * w^2 times the probability of an open gate.
        granularity: `"output"` (default): one gate for each feature map: its
            column of the pointwise kernel and its bias; `"input"`: one for
            each input channel: its slice of the depthwise kernel and the
            rows of the pointwise kernel that read it.
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

    >>> layer = L0SeparableConv2D(8, 3, l0=1e-6)
    >>> layer(keras.ops.ones((2, 9, 9, 4))).shape
    (2, 7, 7, 8)
    """

    # Two kernels are multiplied, so a gate for each weight would have to say
    # of which one.
    granularities = ("input", "output")
    default_granularity = "output"
    plain_class = keras.layers.SeparableConv2D

    def _kernels(self):
        depthwise, pointwise = self.depthwise_kernel, self.pointwise_kernel
        if self.granularity == "output":
            return [GatedWeight(depthwise), GatedWeight(pointwise, (-1,))]
        channels = depthwise.shape[-2]
        return [
            GatedWeight(depthwise, (-2,)),
            GatedWeight(
                pointwise,
                axes=(0,),
                view=(channels, self.depth_multiplier, self.filters),
                scaled=False,
            ),
        ]

    def _linear(self, inputs, depthwise_kernel, pointwise_kernel):
        return ops.separable_conv(
            inputs,
            depthwise_kernel,
            pointwise_kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
