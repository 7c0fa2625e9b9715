from keras import ops

from l0keras.layers.gated_layer import GatedLayer
from l0keras.layers.gated_weight import GatedWeight


class GatedLinearLayer(GatedLayer):
    """What the gated layers share that are activation(kernel(x) + bias).

    The gates multiply the weights (kernel and, at granularity `"output"`,
    bias), so a closed output unit gives the activation of 0. With a sample
    for each example, the same product is taken on the activations instead.
    """

    # The axes of the kernel that belong to input and output units.
    _input_axes = (-2,)
    _output_axes = (-1,)

    # === What a subclass says about its weights ===

    def _kernels(self):
        """The `GatedWeight` of each weight that is not the bias."""
        axes = {
            "input": self._input_axes,
            "output": self._output_axes,
            "weight": tuple(range(len(self.kernel.shape))),
        }[self.granularity]
        return [GatedWeight(self.kernel, axes)]

    def _gated_bias(self):
        axes = (0,) if self.granularity == "output" else ()
        return GatedWeight(self.bias, axes)

    def _linear(self, inputs, *kernels):
        """The layer without bias and activation."""
        raise NotImplementedError

    def _gated_linear(self, inputs, gates):
        """`_linear` with one sample of the gates on the kernels."""
        kernels = [kernel.scale(gates) for kernel in self._kernels()]
        return self._linear(inputs, *kernels)

    def _channel_axis(self):
        if getattr(self, "data_format", None) == "channels_first":
            return 1
        return -1

    def _on_channels(self, bias, rank):
        """Shapes a bias so that it is added to outputs of that rank."""
        shape = [1] * rank
        shape[self._channel_axis()] = -1
        return ops.reshape(bias, shape)

    # === Shared ===

    def build(self, input_shape):
        super().build(input_shape)
        self._build_gate()

    def gated_weights(self):
        bias = [self._gated_bias()] if self.use_bias else []
        return [*self._kernels(), *bias]

    def _on_activations(self, gates, rank):
        """Shapes each example's gates to multiply activations of that rank."""
        shape = [1] * rank
        shape[0] = -1
        shape[self._channel_axis()] = gates.shape[-1]
        return ops.reshape(gates, shape)

    def call(self, inputs, training=False):
        gates, per_example = self._sample(training, inputs)
        if per_example:
            outputs = self._call_with_example_gates(inputs, gates)
        else:
            outputs = self._call_with_batch_gates(inputs, gates)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs

    def _call_with_batch_gates(self, inputs, gates):
        outputs = self._gated_linear(inputs, gates)
        if not self.use_bias:
            return outputs
        bias = self._gated_bias().scale(gates)
        # `ops.add`, not `+`: TensorFlow fuses it into the product.
        return ops.add(outputs, self._on_channels(bias, len(outputs.shape)))

    def _call_with_example_gates(self, inputs, gates):
        """Multiplies activations: examples have the weights in common."""
        if self.granularity == "input":
            inputs = inputs * self._on_activations(gates, len(inputs.shape))
        kernels = [kernel.weight for kernel in self._kernels()]
        outputs = self._linear(inputs, *kernels)
        rank = len(outputs.shape)
        if self.granularity == "output":
            gates = self._on_activations(gates, rank)
            outputs = outputs * gates
        if not self.use_bias:
            return outputs
        gated_bias = self._gated_bias()
        bias = self._on_channels(gated_bias.weight, rank)
        return ops.add(outputs, bias * gates if gated_bias.axes else bias)


class L0BaseConv(GatedLinearLayer):
    """What the gated convolutions of all ranks share."""

    default_granularity = "output"

    def _kernels(self):
        if self.granularity != "input" or self.groups == 1:
            return super()._kernels()
        # In a grouped convolution, one slice of the kernel along its input
        # axis belongs to one input channel of *each* group.
        *window, inputs, filters = self.kernel.shape
        view = (*window, inputs, self.groups, filters // self.groups)
        return [GatedWeight(self.kernel, axes=(-2, -3), view=view)]

    def _linear(self, inputs, kernel):
        return self.convolution_op(inputs, kernel)
