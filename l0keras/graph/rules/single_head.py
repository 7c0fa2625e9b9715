import itertools

import numpy as np
from keras import tree

from l0keras.graph.graph import Value
from l0keras.graph.rules.rule import OtherAxis
from l0keras.graph.rules.rule import Rule


class Attention(Rule):
    """`Attention`: scores of queries and keys, then means of values.

    A score is a sum over channels, of one of the query and the same one of
    the key. What all keys have in common the softmax does not see, so a
    channel that is a constant in the key is not needed. The channels of the
    values pass.
    """

    inputs = None
    several_outputs = True
    with_arguments = True
    shrinks_with_input = True

    def _roles(self, node):
        """The positions of query, value and key; `None` for an array."""
        count = itertools.count()
        args, kwargs = tree.map_structure(
            lambda x: next(count) if isinstance(x, Value) else None,
            (node.args, node.kwargs),
        )
        query, value, *key = args[0] if args else kwargs["inputs"]
        return query, value, (key or [value])[0]

    def _value_is_key(self, node):
        _, value, key = self._roles(node)
        return value == key

    def _multiplies(self, node):
        """Whether a channel of 0 in the query adds nothing, for any key."""
        return node.layer.score_mode == "dot"

    def refuses(self, node):
        if len(node.outputs) > 1:
            return "gives out its scores"
        if None in self._roles(node):
            return "called with arrays"
        values = [node.inputs[i] for i in self.channel_inputs(node)]
        if any(value.axis != value.rank - 1 for value in values):
            return OtherAxis("reads along another axis than its channels")
        query, _, key = (node.inputs[i] for i in self._roles(node))
        if query.size != key.size:
            return "its queries and keys have different widths"
        if not all(value.selectable for value in values):
            return "its inputs carry a mask or are sparse"
        if len(node.operation.nodes) > 1:
            return "shared"
        return None

    def channel_inputs(self, node):
        return sorted({i for i in self._roles(node) if i is not None})

    def output_axis(self, node):
        return node.output.rank - 1

    def sources(self, node):
        size = node.output.size
        _, passed, _ = self._roles(node)
        return [
            np.arange(size) if position == passed else np.full(size, -1)
            for position in range(len(node.inputs))
        ]

    def constants(self, node):
        # Where a mask hides a query the output is 0.
        _, value, _ = self._roles(node)
        constants = node.inputs[value].constants
        return np.where(constants == 0, 0.0, np.nan)

    def _scored(self, node):
        """The channels that scores depend on, but for all keys alike."""
        query, _, key = self._roles(node)
        scored = np.isnan(node.constants(key))
        if self._multiplies(node):
            scored &= node.constants(query) != 0
        return scored

    def reads(self, node, made):
        query, value, key = self._roles(node)
        masks = [np.ones(value.size, bool) for value in node.inputs]
        scored = self._scored(node)
        if self._value_is_key(node):
            scored |= made
        # At least one, and the same ones of both.
        scored[0] |= not np.any(scored)
        masks[value] = made
        masks[query] = masks[key] = scored
        return masks

    def takes_whole_sets(self, node):
        return True

    def reads_gated(self, node, position):
        query, _, key = self._roles(node)
        if self._multiplies(node):
            # One of both is enough.
            return position == query
        return position in (query, key) and not self._value_is_key(node)

    def ties(self, node):
        query, _, key = self._roles(node)
        channels = np.arange(node.inputs[query].size)
        return [*super().ties(node), (query, channels, key, channels)]

    def pins(self, node):
        pins = super().pins(node)
        if self._value_is_key(node) and not self._multiplies(node):
            # Gates would stand behind the values, but not behind the keys.
            for position in self.channel_inputs(node):
                pins[position][:] = True
        return pins

    def weights(self, node):
        return [(array.size, []) for array in node.params.values()]


class AdditiveAttention(Attention):
    """`AdditiveAttention`, with a factor for each channel of the sums."""

    def _multiplies(self, node):
        return False

    def _scored(self, node):
        scored = super()._scored(node)
        if "scale" in node.params:
            scored &= node.params["scale"] != 0
        return scored

    def shrink(self, node):
        query, _, _ = self._roles(node)
        got = node.got(query)
        return {}, {name: array[got] for name, array in node.params.items()}

    def weights(self, node):
        query, _, _ = self._roles(node)
        channels = (query, np.arange(node.inputs[query].size))
        return [(1, [channels]) for _ in node.params]
