import inspect
import itertools

import numpy as np
from keras import tree

from l0keras.graph.graph import Value
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import cannot_read


class Attention(Rule):
    """What the attention layers with several heads share.

    Heads are channels inside the layer. A head does nothing if its part of
    the output projection is zero, or if all of its values are; each value is
    a mean of values then, with or without masks, and the mean of zeros is
    zero. Values that are the same number at every position, but not zero,
    would be a constant too; no use is made of that.
    """

    inputs = None
    several_outputs = True
    with_arguments = True
    shrinks_with_input = True

    def _positions(self, node):
        """Where each argument that is a tensor lies among the inputs."""
        count = itertools.count()
        args, kwargs = tree.map_structure(
            lambda x: next(count) if isinstance(x, Value) else None,
            (node.args, node.kwargs),
        )
        names = inspect.signature(node.layer.call).parameters
        given = {**dict(zip(names, args)), **kwargs}
        return {
            name: position
            for name, position in given.items()
            if isinstance(position, int)
        }

    def _readers(self, node):
        """Each projection of an input, and the position of that input."""
        positions = self._positions(node)
        readers = {
            "query": positions["query"],
            "key": positions.get("key", positions["value"]),
            "value": positions["value"],
        }
        if "gate/kernel" in node.params:
            readers["gate"] = readers["query"]
        return readers

    def channel_inputs(self, node):
        positions = self._positions(node)
        return [
            positions[name]
            for name in ("query", "value", "key")
            if name in positions
        ]

    def refuses(self, node):
        reason = cannot_read(node.layer)
        if reason:
            return reason
        if len(node.outputs) > 1:
            return "gives out its scores, which each head has of its own"
        positions = self._positions(node)
        if not {"query", "value"} <= set(positions):
            return "called with arrays"
        if any(
            self._positions(other) != positions
            for other in node.operation.nodes
        ):
            return "shared, and called with other arguments elsewhere"
        for position in self.channel_inputs(node):
            value = node.inputs[position]
            if value.axis != value.rank - 1:
                return "reads along another axis than that of the channels"
        return None

    def output_axis(self, node):
        return node.output.rank - 1

    def sources(self, node):
        return [np.full(node.output.size, -1) for _ in node.inputs]

    def _repeats(self, node):
        """How many heads of the query share one of the key and the value."""
        return 1

    def _silent(self, node, constants):
        """Which values of which heads are zero, an array (heads, values).

        Args:
            constants: those of the input `value`.
        """
        kernel = node.params["value/kernel"]
        silent = ~np.any(kernel[constants != 0] != 0, axis=0)
        if "value/bias" in node.params:
            silent &= node.params["value/bias"] == 0
        return np.repeat(silent, self._repeats(node), axis=0)

    def _connected(self, node, constants):
        """Which heads add to which outputs, an array (heads, outputs)."""
        kernel = node.params["attention_output/kernel"] != 0
        return np.any(
            kernel & ~self._silent(node, constants)[..., None], axis=1
        )

    def _heads(self, node, made):
        """The heads to keep, and whether any of them does something.

        Returns:
            Integers, shape `(heads of the value, of the query for each)`, and
            a boolean.
        """
        constants = node.constants(self._readers(node)["value"])
        needed = np.any(self._connected(node, constants)[:, made], axis=1)
        by_group = needed.reshape(-1, self._repeats(node))
        groups = np.flatnonzero(np.any(by_group, axis=1))
        if len(groups) == 0:
            # Keras has no attention without heads.
            return np.zeros((1, 1), int), False
        # All groups have the same number; in each, those needed come first.
        count = by_group.sum(axis=1).max()
        order = np.argsort(~by_group[groups], axis=1, kind="stable")
        inside = np.sort(order[:, :count], axis=1)
        return groups[:, None] * by_group.shape[1] + inside, True

    def _of_head(self, node, name, heads):
        """Along which index a projection has these heads."""
        if name in ("key", "value"):
            return heads[:, 0] // self._repeats(node)
        return heads.reshape(-1)

    def constants(self, node):
        constants = node.inputs[self._readers(node)["value"]].constants
        constant = ~np.any(self._connected(node, constants), axis=0)
        bias = node.params.get("attention_output/bias", np.zeros(len(constant)))
        return np.where(constant, bias, np.nan)

    def reads(self, node, made):
        masks = [np.ones(value.size, bool) for value in node.inputs]
        for position in self.channel_inputs(node):
            masks[position][:] = False
        heads, working = self._heads(node, made)
        if not working:
            return masks
        for name, position in self._readers(node).items():
            kernel = node.params[f"{name}/kernel"]
            kernel = kernel[:, self._of_head(node, name, heads)]
            connected = np.any(kernel != 0, axis=(1, 2))
            # A projection is the same at each position, so its bias can stand
            # in for what is.
            masks[position] |= connected & np.isnan(node.constants(position))
        return masks

    def _cut(self, node):
        """The heads kept, changes to the configuration, and the weights."""
        heads, _ = self._heads(node, node.made)
        kept = self.keeps(node)
        params = {}
        for name, position in self._readers(node).items():
            kernel = node.params[f"{name}/kernel"]
            index = self._of_head(node, name, heads)
            bias = node.params.get(f"{name}/bias", np.zeros(kernel.shape[1:]))
            gone = np.ones(len(kernel), bool)
            gone[node.got(position)] = False
            constants = np.nan_to_num(node.constants(position))
            # An input that is gone and not known is not connected.
            folded = np.tensordot(np.where(gone, constants, 0.0), kernel, 1)
            params[f"{name}/kernel"] = kernel[node.got(position)][:, index]
            params[f"{name}/bias"] = (bias + folded)[index]
        kernel = node.params["attention_output/kernel"]
        kernel = kernel[heads.reshape(-1)][..., kept]
        bias = node.params.get("attention_output/bias")
        params["attention_output/kernel"] = kernel
        params["attention_output/bias"] = (
            np.zeros(kernel.shape[-1]) if bias is None else bias[kept]
        )
        use_bias = "query/bias" in node.params or any(
            np.any(params[f"{name}/bias"]) for name in self._readers(node)
        )
        if not use_bias:
            params = {k: v for k, v in params.items() if "bias" not in k}
        return heads, {"use_bias": use_bias}, params

    def weights(self, node):
        outputs = (-1, np.arange(node.output.size))
        arrays = []
        for name, position in self._readers(node).items():
            rows, *heads = node.params[f"{name}/kernel"].shape
            count = int(np.prod(heads))
            arrays.append((count, [(position, np.arange(rows))]))
            if f"{name}/bias" in node.params:
                arrays.append((count, []))
        kernel = node.params["attention_output/kernel"]
        arrays.append((int(np.prod(kernel.shape[:2])), [outputs]))
        if "attention_output/bias" in node.params:
            arrays.append((1, [outputs]))
        return arrays


class MultiHead(Attention):
    """`MultiHeadAttention`: heads, outputs and the channels of its inputs."""

    def refuses(self, node):
        reason = super().refuses(node)
        if reason:
            return reason
        query = node.inputs[self._positions(node)["query"]]
        if node.output.rank != query.rank:
            return "projects to several axes"
        if query.rank - 1 in node.layer._attention_axes:
            return "its heads attend to each other"
        return None

    def creates(self, node):
        return True

    def shrink(self, node):
        heads, config, params = self._cut(node)
        config["num_heads"] = len(heads)
        outputs = int(node.made.sum())
        query = self._positions(node)["query"]
        if outputs != len(node.got(query)) or node.layer._output_shape:
            config["output_shape"] = (outputs,)
        return config, params

    def takes_output_scale(self, node):
        return True

    def scale_output(self, node, scale):
        for name in ("attention_output/kernel", "attention_output/bias"):
            if name in node.params:
                node.params[name] = node.params[name] * scale


class Cached(MultiHead):
    """`CachedMultiHeadAttention` of KerasHub, where nothing is cached."""

    def refuses(self, node):
        if "cache" in self._positions(node):
            return "called with a cache"
        # The layer of Keras would use masks that this one does not see.
        if not all(value.selectable for value in node.inputs):
            return "its inputs carry a mask or are sparse"
        return super().refuses(node)


class GroupQuery(Attention):
    """`GroupQueryAttention`: heads, and channels by its one width.

    Keras gives it the width of the query and asks for the same of the value,
    so channel c is kept everywhere or nowhere. Heads of the key and the value
    go once all of their query heads can; of the others' query heads as many
    go as can in each.
    """

    aligns = True

    def _repeats(self, node):
        return node.layer.num_repeats

    def refuses(self, node):
        reason = super().refuses(node)
        if reason:
            return reason
        if len(node.operation.nodes) > 1:
            return "shared"
        values = [node.inputs[i] for i in self.channel_inputs(node)]
        if any(value.size != node.output.shape[-1] for value in values):
            return "its inputs have different widths"
        if not all(value.selectable for value in values):
            return "its inputs carry a mask or are sparse"
        return None

    def makes(self, node, live):
        while True:
            more = live.copy()
            masks = super().reads(node, live)
            for position in self.channel_inputs(node):
                more |= masks[position]
            if np.array_equal(more, live):
                return live
            live = more

    def reads(self, node, made):
        masks = super().reads(node, made)
        for position in self.channel_inputs(node):
            masks[position] = made
        return masks

    def keeps(self, node):
        return node.got(self._positions(node)["query"])

    def shrink(self, node):
        heads, config, params = self._cut(node)
        config["num_key_value_heads"], repeats = heads.shape
        config["num_query_heads"] = heads.shape[0] * repeats
        return config, params
