import numpy as np
from keras import ops

from l0keras.graph.rules.rule import Rule


class SharedGate(Rule):
    """`SharedGate`: at test time the same numbers for any input."""

    def channel_inputs(self, node):
        # It only takes the length of the batch from it, if anything.
        return []

    def constants(self, node):
        return node.layer.test_gates().astype("float64")

    def output_axis(self, node):
        return 1

    def reads(self, node, made):
        return [np.ones(node.input.size, bool)]

    def keeps(self, node):
        return np.flatnonzero(node.made)

    def call(self, node, layer, args, kwargs):
        """Plain ops that give out the gates, for what is no mere scaling."""
        (inputs,) = args
        gates = node.layer.test_gates()[node.output.kept][None]
        axes = tuple(range(len(inputs.shape)))
        if node.output.shape[0] is None:
            axes = axes[1:]
        # Zeros of the output's length, even if the input is not finite.
        zeros = ops.max(ops.zeros_like(inputs, dtype="float32"), axis=axes)
        gates = ops.add(ops.reshape(zeros, (-1, 1)), gates)
        return ops.cast(gates, layer.compute_dtype)

    def sources(self, node):
        return [np.full(node.output.size, -1)]
