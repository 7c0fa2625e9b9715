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

    def pins(self, node):
        (first,) = self._ask(node, "pins")
        return [first, *(np.ones(v.size, bool) for v in node.inputs[1:])]

    def reads(self, node, made):
        (first,) = self._ask(node, "reads", made)
        return [first, *(np.ones(v.size, bool) for v in node.inputs[1:])]

    def shrink(self, node):
        changes, params = self._ask(node, "shrink")
        return {"layer": Changed(node.layer.layer, changes)}, params

    def is_homogeneous(self, node):
        # A mask would be a second input.
        return len(node.inputs) == 1 and self._ask(node, "is_homogeneous")


def _passed_on(question):
    def ask(self, node, *arguments):
        return self._ask(node, question, *arguments)

    ask.__name__ = question
    ask.__doc__ = getattr(Rule, question).__doc__
    return ask


# The answers of `Rule` hold for a wrapper: it is called itself, and gates are
# neither made of it nor silenced through it.
_AS_ANY_RULE = ("affine", "call", "channel_scale", "silence")
# All other questions go to the rule for the layer inside, also those that
# `Rule` will have one day.
for _question in vars(Rule):
    if not _question.startswith("_") and callable(getattr(Rule, _question)):
        if _question not in (*vars(TimeDistributed), *_AS_ANY_RULE):
            setattr(TimeDistributed, _question, _passed_on(_question))
