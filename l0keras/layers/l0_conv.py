import math

from keras import ops

from l0keras.layers.gated_layer import GatedLayer


class L0BaseConv(GatedLayer):
    """What the gated convolutions of all ranks share."""

    default_granularity = "output"

    def _gate_layout(self):
        *window, inputs, filters = self.kernel.shape
        ones = (1,) * len(window)
        return {
            "input": (*ones, inputs, 1),
            "output": (*ones, 1, filters),
            "weight": (*window, inputs, filters),
        }[self.granularity]

    def _linear(self, inputs, kernel):
        return self.convolution_op(inputs, kernel)

    # In a grouped convolution, one slice of the kernel along its input axis
    # belongs to one input channel of *each* group, so gates on input channels
    # need three more views of the kernel.

    @property
    def _groups_of_inputs(self):
        return self.granularity == "input" and self.groups > 1

    def _gate_shape(self):
        if self._groups_of_inputs:
            return (self.kernel.shape[-2] * self.groups,)
        return super()._gate_shape()

    def _spread(self, gates):
        if not self._groups_of_inputs:
            return super()._spread(gates)
        gates = ops.transpose(ops.reshape(gates, (self.groups, -1)))
        gates = ops.repeat(gates, self.filters // self.groups, axis=-1)
        return ops.reshape(gates, (1,) * self.rank + tuple(gates.shape))

    def _squared_norms(self):
        if not self._groups_of_inputs:
            return super()._squared_norms()
        inputs = self.kernel.shape[-2]
        shape = (
            math.prod(self.kernel_size),
            inputs,
            self.groups,
            self.filters // self.groups,
        )
        squares = ops.reshape(ops.square(self.kernel), shape)
        norms = ops.sum(squares, axis=(0, 3))
        return ops.reshape(ops.transpose(norms), (-1,))
