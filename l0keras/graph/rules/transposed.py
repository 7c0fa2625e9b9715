import numpy as np

from l0keras.graph.rules.linear import Linear


class Transposed(Linear):
    """`Conv1DTranspose`, `Conv2DTranspose` and `Conv3DTranspose`.

    They keep their kernel as `(*window, units, inputs)`.
    """

    def kernel(self, node):
        return np.swapaxes(node.params["kernel"], -1, -2)

    def stored(self, kernel):
        return {"kernel": np.swapaxes(kernel, -1, -2)}

    def groups(self, node):
        return 1

    def _sees_borders(self, node):
        # Which entries of the kernel meet in an output is not the same
        # everywhere: neither at borders nor, with strides, between them.
        window = self.kernel(node).shape[:-2]
        return any(size != 1 for size in (*window, *node.layer.strides))
