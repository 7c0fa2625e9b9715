from l0keras.layers.gated_linear_layer import GatedLinearLayer
from l0keras.layers.gated_weight import GatedWeight


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
