import keras
from keras import ops

from l0keras.layers.gated_linear_layer import GatedLinearLayer
from l0keras.layers.gated_weight import GatedWeight


@keras.saving.register_keras_serializable("l0keras")
class L0EinsumDense(GatedLinearLayer, keras.layers.EinsumDense):
    """A `keras.layers.EinsumDense` with gates on its weights.

    With every gate at 1 it is exactly the plain layer.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    sections 2.2 and 4; the paper has no such layer, the input units are
    gated as in its fully connected ones.

    Args:
        equation, output_shape, ...: as in `keras.layers.EinsumDense`;
            `lora_rank` must be `None`.
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples.
        l2: weight decay coupled with the gates, divided likewise: the
            penalty is 0.5 * l2 * w^2 times the probability of an open gate.
        granularity: `"input"` (default): one gate for each index of the
            input's last axis, the bias is not gated; `"output"`: one for each
            index of the output's last axis, with its bias where `bias_axes`
            has that axis; `"weight"`: one for each entry of the kernel.
        droprate_init: the share of gates closed at the start, in (0, 1).
        sample_per: `"batch"` or `"example"`.
        temperature, gamma, zeta, log_alpha_limit, seed: see
            `l0keras.HardConcreteGate`.

    Input shape: as the equation says.

    Output shape: as the equation says.

    Raises:
        ValueError: an argument out of its range; when the layer is built, an
            equation without the axis that `granularity` is about: the input's
            last axis must be summed over, and either axis must be one of the
            kernel.

    Example:

    >>> layer = L0EinsumDense("abc,cd->abd", (None, 64), bias_axes="d")
    >>> layer(keras.ops.ones((2, 3, 16))).shape
    (2, 3, 64)
    """

    default_granularity = "input"
    plain_class = keras.layers.EinsumDense

    @property
    def use_bias(self):
        return self.bias_axes is not None

    def _gated_label(self, inputs, kernel, output):
        """The letter of the gated axis."""
        if self.granularity == "input":
            label = inputs[-1]
            allowed = label in kernel and label not in output
            wanted = "sum over the last axis of the input with the kernel"
        else:
            label = output[-1]
            allowed = label in kernel
            wanted = "take the last axis of the output from the kernel"
        if not allowed:
            raise ValueError(
                f"Argument `equation` must {wanted} where `granularity` is "
                f"{self.granularity!r}. Received: equation={self.equation!r}"
            )
        return label

    def _kernels(self):
        if self.granularity == "weight":
            return super()._kernels()
        left, output = self.equation.split("->")
        inputs, kernel = left.split(",")
        label = self._gated_label(inputs, kernel, output)
        return [GatedWeight(self.kernel, (kernel.index(label),))]

    def _gated_bias(self):
        # The axes of the bias are the output's last ones.
        label = self.equation[-1]
        if self.granularity == "output" and label in self.bias_axes:
            return GatedWeight(self.bias, (-1,))
        return GatedWeight(self.bias)

    def _linear(self, inputs, kernel):
        return ops.einsum(self.equation, inputs, kernel)

    def _on_channels(self, bias, rank):
        return bias
