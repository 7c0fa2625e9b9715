import numpy as np

from l0keras import activations
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import cannot_read


class EinsumDense(Rule):
    """`EinsumDense` that maps the last axis to a new last axis.

    The last label of the input has to be summed over, that of the output has
    to come from the kernel; all others may be anything.
    """

    shrinks_with_input = True

    def _labels(self, node):
        """The labels of input, kernel and output, without an ellipsis."""
        left, output = node.layer.equation.replace(" ", "").split("->")
        return (*left.split(","), output)

    def refuses(self, node):
        reason = cannot_read(node.layer)
        if reason:
            return reason
        inputs, kernel, output = self._labels(node)
        if node.input.axis != node.input.rank - 1 or "." in (
            inputs[-1] + output[-1]
        ):
            return "reads along another axis than that of the channels"
        if inputs[-1] not in kernel or inputs[-1] in output:
            return "does not sum over the channels"
        if output[-1] not in kernel or output[-1] in inputs:
            return "makes its last axis of its input's axes"
        for labels in (inputs, kernel, output):
            labels = labels.replace(".", "")
            if len(set(labels)) < len(labels):
                return "takes a diagonal"
        return None

    def output_axis(self, node):
        return node.output.rank - 1

    def sources(self, node):
        return [np.full(node.output.size, -1)]

    def creates(self, node):
        return True

    def _matrix(self, node, function):
        """A function over all axes of the kernel but two: inputs x units."""
        inputs, labels, output = self._labels(node)
        kernel = node.params["kernel"]
        first, last = labels.index(inputs[-1]), labels.index(output[-1])
        ordered = np.moveaxis(kernel, (first, last), (-2, -1))
        return function(ordered, tuple(range(kernel.ndim - 2)))

    def _connected(self, node):
        return self._matrix(node, lambda w, axes: np.any(w != 0, axis=axes))

    def _shares(self, node, values):
        """What inputs of these values add, over the labels of the output."""
        inputs, labels, output = self._labels(node)
        output = output.replace(".", "")
        kernel = node.params["kernel"].astype("float64")
        axis = labels.index(inputs[-1])
        kernel = np.tensordot(kernel, values, axes=(axis, 0))
        labels = labels.replace(inputs[-1], "")
        summed = tuple(i for i, x in enumerate(labels) if x not in output)
        kernel = kernel.sum(axis=summed)
        labels = [x for x in labels if x in output]
        order = sorted(
            range(len(labels)), key=lambda i: output.index(labels[i])
        )
        sizes = dict(zip(labels, kernel.shape))
        return kernel.transpose(order).reshape(
            [sizes.get(label, 1) for label in output]
        )

    def _bias(self, node):
        """The bias over the labels of the output."""
        output = self._labels(node)[2].replace(".", "")
        bias = node.params.get("bias", np.zeros(1))
        return bias.reshape((1,) * (len(output) - bias.ndim) + bias.shape)

    def _foldable(self, node):
        """Which inputs are constants that the bias can stand in for."""
        constants = node.constants()
        inputs, labels, output = self._labels(node)
        # A bias along another axis than the last may have no known size.
        spread = set(labels) & set(output) - {output[-1]}
        if spread <= set(node.layer.bias_axes or ""):
            return ~np.isnan(constants)
        return constants == 0

    def constants(self, node):
        activation = node.layer.activation
        size = node.output.size
        if not activations.is_elementwise(activation):
            return np.full(size, np.nan)
        constants = node.input.constants
        unknown = np.isnan(constants)
        constant = ~np.any(self._connected(node)[unknown], axis=0)
        values = self._bias(node) + self._shares(node, np.nan_to_num(constants))
        values = np.broadcast_to(values, (*values.shape[:-1], size))
        values = values.reshape(-1, size)
        constant &= np.all(values == values[0], axis=0)
        return activations.apply(
            activation, np.where(constant, values[0], np.nan)
        )

    def makes(self, node, live):
        if not activations.is_elementwise(node.layer.activation):
            return np.ones_like(live)
        return live

    def reads(self, node, made):
        connected = np.any(self._connected(node)[:, made], axis=1)
        return [connected & ~self._foldable(node)]

    def shrink(self, node):
        got, kept = node.got(), np.flatnonzero(node.made)
        inputs, labels, output = self._labels(node)
        kernel = np.take(
            node.params["kernel"], got, axis=labels.index(inputs[-1])
        )
        kernel = np.take(kernel, kept, axis=labels.index(output[-1]))
        *others, _ = node.layer.get_config()["output_shape"]
        config = {"output_shape": (*others, len(kept))}
        params = {"kernel": kernel}
        gone = np.ones(node.input.size, bool)
        gone[got] = False
        values = np.where(gone, np.nan_to_num(node.constants()), 0.0)
        shares = self._shares(node, values)[..., kept]
        axes = node.layer.bias_axes or ""
        bias = self._bias(node)
        if output[-1] in axes:
            bias = bias[..., kept]
        if np.any(shares):
            bias = bias + shares
            axes += "" if output[-1] in axes else output[-1]
        if axes:
            # Keras leaves out the axes in front of the first one.
            first = min(map(output.replace(".", "").index, axes))
            config["bias_axes"] = axes
            params["bias"] = bias.reshape(bias.shape[first:])
        return config, params

    def weights(self, node):
        inputs, units = np.arange(node.input.size), np.arange(node.output.size)
        kernel = node.params["kernel"]
        count = kernel.size // (len(inputs) * len(units))
        arrays = [(count, [(0, inputs), (-1, units)])]
        if "bias" in node.params:
            bias = node.params["bias"]
            if bias.shape[-1] == len(units):
                arrays.append((bias.size // len(units), [(-1, units)]))
            else:
                arrays.append((bias.size, []))
        return arrays

    def output_weights(self, node):
        axes = node.layer.bias_axes
        if axes and self._labels(node)[2][-1] not in axes:
            # One for all units.
            del node.params["bias"]
        return super().output_weights(node)

    def takes_output_scale(self, node):
        axes = node.layer.bias_axes
        if axes and self._labels(node)[2][-1] not in axes:
            return False
        return activations.is_homogeneous(node.layer.activation)

    def _scale(self, node, label, scale):
        labels = self._labels(node)[1]
        shape = [1] * len(labels)
        shape[labels.index(label)] = -1
        node.params["kernel"] = node.params["kernel"] * scale.reshape(shape)

    def scale_output(self, node, scale):
        self._scale(node, self._labels(node)[2][-1], scale)
        if "bias" in node.params:
            node.params["bias"] = node.params["bias"] * scale

    def takes_input_scale(self, node):
        return True

    def scale_input(self, node, scale):
        self._scale(node, self._labels(node)[0][-1], scale)
