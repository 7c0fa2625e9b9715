import numpy as np

from l0keras.copying import Changed
from l0keras.graph.rules import wrapped
from l0keras.graph.rules.rule import Barrier
from l0keras.graph.rules.rule import Rule


class TimeDistributed(Rule):
    """`TimeDistributed`: what the rule for the layer inside says.

    Args:
        rule_of: the function of the table.
    """

    inputs = None
    with_arguments = True
    shrinks_with_input = True

    def __init__(self, rule_of):
        self._rule_of = rule_of

    def _inner(self, node):
        """The rule for the layer inside, and the node that it sees."""
        inner = wrapped.Inner(node, node.layer.layer, axis=1)
        rule, reason = self._rule_of(inner)
        return rule, inner, reason

    def _ask(self, node, question, *arguments):
        rule, inner, _ = self._inner(node)
        return getattr(rule, question)(inner, *arguments)

    def refuses(self, node):
        if node.input.axis < 2:
            return "distributes over the axis of the channels"
        further = {k for k, value in node.kwargs.items() if value is not None}
        if len(node.args) != 1 or further - {"mask", "training"}:
            return "called with further arguments"
        if "mask" in further and node.layer.layer._call_has_mask_arg:
            return "the layer inside takes a mask"
        rule, _, reason = self._inner(node)
        if isinstance(rule, Barrier):
            return f"inside it: {reason}"
        return None

    def channel_inputs(self, node):
        return [0]

    def output_axis(self, node):
        return self._ask(node, "output_axis") + 1

    def sources(self, node):
        (first,) = self._ask(node, "sources")
        return [first, *(np.full(len(first), -1) for _ in node.inputs[1:])]

    def ties(self, node):
        return self._ask(node, "ties")

    def pins(self, node):
        (first,) = self._ask(node, "pins")
        return [first, *(np.ones(v.size, bool) for v in node.inputs[1:])]

    def constants(self, node):
        return self._ask(node, "constants")

    def makes(self, node, live):
        return self._ask(node, "makes", live)

    def reads(self, node, made):
        (first,) = self._ask(node, "reads", made)
        return [first, *(np.ones(v.size, bool) for v in node.inputs[1:])]

    def takes_whole_sets(self, node):
        return self._ask(node, "takes_whole_sets")

    def creates(self, node):
        return self._ask(node, "creates")

    def keeps(self, node):
        return self._ask(node, "keeps")

    def shrink(self, node):
        changes, params = self._ask(node, "shrink")
        return {"layer": Changed(node.layer.layer, changes)}, params

    def weights(self, node):
        return self._ask(node, "weights")

    def output_weights(self, node):
        return self._ask(node, "output_weights")

    def is_homogeneous(self, node):
        # A mask would be a second input.
        return len(node.inputs) == 1 and self._ask(node, "is_homogeneous")

    def scale_forwards(self, node, scale):
        return self._ask(node, "scale_forwards", scale)

    def scale_backwards(self, node, scale):
        return self._ask(node, "scale_backwards", scale)

    def takes_output_scale(self, node):
        return self._ask(node, "takes_output_scale")

    def scale_output(self, node, scale):
        self._ask(node, "scale_output", scale)

    def takes_input_scale(self, node):
        return self._ask(node, "takes_input_scale")

    def scale_input(self, node, scale):
        self._ask(node, "scale_input", scale)

    def takes_joined_inputs(self, node):
        return self._ask(node, "takes_joined_inputs")

    def join_inputs(self, node, first, factors):
        self._ask(node, "join_inputs", first, factors)
