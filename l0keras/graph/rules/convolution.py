import numpy as np

from l0keras import activations
from l0keras.graph.rules.linear import OTHER_AXIS
from l0keras.graph.rules.linear import Linear
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import cannot_read
from l0keras.graph.rules.rule import channel_axis
from l0keras.graph.rules.rule import take


class Convolution(Linear):
    """`Conv1D`, `Conv2D` and `Conv3D`, in whole groups."""


class Depthwise(Rule):
    """`DepthwiseConv1D` and `DepthwiseConv2D`.

    The kernel is `(*window, channels, multiplier)`; output channel
    `c * multiplier + j` is made of input channel c.
    """

    shrinks_with_input = True

    def refuses(self, node):
        reason = cannot_read(node.layer)
        if reason:
            return reason
        if node.input.axis != self.output_axis(node):
            return OTHER_AXIS
        if not activations.is_elementwise(node.layer.activation):
            return "its activation mixes channels"
        return None

    def output_axis(self, node):
        return channel_axis(node.layer, node.input)

    def _multiplier(self, node):
        return node.layer.depth_multiplier

    def sources(self, node):
        channels = np.arange(node.input.size)
        return [np.repeat(channels, self._multiplier(node))]

    def _sees_borders(self, node):
        return node.layer.padding != "valid" and any(
            size != 1 for size in node.params["kernel"].shape[:-2]
        )

    def constants(self, node):
        kernel = node.params["kernel"]
        axes = tuple(range(kernel.ndim - 2))
        sums = np.sum(kernel, axis=axes, dtype="float64").reshape(-1)
        empty = ~np.any(kernel != 0, axis=axes).reshape(-1)
        inputs = np.repeat(node.input.constants, self._multiplier(node))
        if self._sees_borders(node):
            inputs = np.where(inputs == 0, inputs, np.nan)
        values = np.where(empty, 0.0, inputs * sums)
        values = values + node.params.get("bias", 0.0)
        return activations.apply(node.layer.activation, values)

    def makes(self, node, live):
        whole = np.any(live.reshape(-1, self._multiplier(node)), axis=1)
        return np.repeat(whole, self._multiplier(node))

    def shrink(self, node):
        params = {"kernel": node.params["kernel"][..., node.got(), :]}
        if "bias" in node.params:
            params["bias"] = node.params["bias"][self.keeps(node)]
        return {}, params

    def weights(self, node):
        kernel = node.params["kernel"]
        count = int(np.prod(kernel.shape[:-2])) + int("bias" in node.params)
        return [(count, [(-1, np.arange(node.output.size))])]

    def takes_output_scale(self, node):
        return activations.is_homogeneous(node.layer.activation)

    def scale_output(self, node, scale):
        kernel = node.params["kernel"]
        node.params["kernel"] = kernel * scale.reshape(kernel.shape[-2:])
        if "bias" in node.params:
            node.params["bias"] = node.params["bias"] * scale

    def takes_input_scale(self, node):
        return True

    def scale_input(self, node, scale):
        node.params["kernel"] = node.params["kernel"] * scale[:, None]


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


class Separable(Linear):
    """`SeparableConv1D` and `SeparableConv2D`.

    A depthwise kernel `(*window, inputs, multiplier)` makes `multiplier` maps
    of each input, of which a pointwise kernel makes the units. Both together
    do what the kernel of a plain convolution does.
    """

    def _maps(self, node):
        """The pointwise kernel as `(inputs, multiplier, units)`."""
        depthwise = node.params["depthwise_kernel"]
        pointwise = node.params["pointwise_kernel"]
        return pointwise.reshape(*depthwise.shape[-2:], pointwise.shape[-1])

    def groups(self, node):
        return 1

    def window(self, node):
        return node.params["depthwise_kernel"].shape[:-2]

    def inputs_of_group(self, node):
        return node.params["depthwise_kernel"].shape[-2]

    def _used(self, node):
        """Which maps of the inputs reach which units, a boolean array."""
        depthwise = node.params["depthwise_kernel"]
        made = np.any(depthwise != 0, axis=tuple(range(depthwise.ndim - 2)))
        return made[..., None] & (self._maps(node) != 0)

    def connections(self, node):
        return np.any(self._used(node), axis=1)

    def sums(self, node, rows, columns):
        depthwise = node.params["depthwise_kernel"][..., rows, :]
        window = tuple(range(depthwise.ndim - 2))
        made = depthwise.sum(axis=window, dtype="float64")
        return np.einsum(
            "im,imu->iu", made, self._maps(node)[rows][..., columns]
        )

    def select(self, node, rows, columns):
        # All inputs have as many maps; those that are used come first.
        used = np.any(take(self._used(node)[rows], columns, -1), axis=-1)
        count = max(1, int(used.sum(axis=1).max()))
        order = np.argsort(~used, axis=1, kind="stable")[:, :count]
        positions = rows[:, None]
        depthwise = node.params["depthwise_kernel"][..., positions, order]
        pointwise = take(self._maps(node)[positions, order], columns, -1)
        window = (1,) * len(self.window(node))
        return {"depth_multiplier": count}, {
            "depthwise_kernel": depthwise,
            "pointwise_kernel": pointwise.reshape(*window, -1, len(columns)),
        }

    def takes_joined_inputs(self, node):
        # Each input goes through windows of its own.
        return False

    def weights(self, node):
        *window, inputs, multiplier = node.params["depthwise_kernel"].shape
        rows = np.arange(inputs)
        columns = (-1, np.arange(node.output.size))
        arrays = [
            (int(np.prod(window)) * multiplier, [(0, rows)]),
            (1, [(0, np.repeat(rows, multiplier)), columns]),
        ]
        if "bias" in node.params:
            arrays.append((1, [columns]))
        return arrays

    def scale_output(self, node, scale):
        for name in ("pointwise_kernel", "bias"):
            if name in node.params:
                node.params[name] = node.params[name] * scale

    def scale_input(self, node, scale):
        kernel = node.params["depthwise_kernel"]
        node.params["depthwise_kernel"] = kernel * scale[:, None]
