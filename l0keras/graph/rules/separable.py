import numpy as np

from l0keras.graph.rules.linear import Linear


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

    def kernel(self, node):
        depthwise = node.params["depthwise_kernel"].astype("float64")
        return np.einsum("...im,imu->...iu", depthwise, self._maps(node))

    def groups(self, node):
        return 1

    def shrink(self, node):
        config, params = super().shrink(node)
        got = node.got()
        depthwise = node.params["depthwise_kernel"][..., got, :]
        maps = self._maps(node)[got][..., node.made]
        used = np.any(depthwise != 0, axis=tuple(range(depthwise.ndim - 2)))
        used &= np.any(maps != 0, axis=-1)
        # All inputs have as many maps; those that are used come first.
        count = max(1, int(used.sum(axis=1).max()))
        order = np.argsort(~used, axis=1, kind="stable")[:, :count]
        rows = np.arange(len(got))[:, None]
        params["depthwise_kernel"] = depthwise[..., rows, order]
        window = (1,) * (depthwise.ndim - 2)
        params["pointwise_kernel"] = maps[rows, order].reshape(
            *window, -1, maps.shape[-1]
        )
        return {**config, "depth_multiplier": count}, params

    def stored(self, kernel):
        # `shrink` and the scalings go back to the two kernels themselves.
        return {}

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
