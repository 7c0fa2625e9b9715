"""The passes of `strip` in their order, each with what it reads and fills in.

    trace                reads the Keras model, gates baked; makes nodes, values
    find_rules           reads layers and shapes;
                         fills node.rule, node.reasons, value.axis
    load_params          reads weights; fills operation.params
    propagate_constants  reads rules, params; fills value.constants
    simplify             reads constants; takes out nodes that do nothing
    fold_gates           reads scalings that gates became, and rules;
                         changes params of other nodes, takes out scalings
    find_live            reads constants, params;
                         fills value.live, .needed, .gone and
                         node.alive, .made, .needs, .spare, .reads, .notes
    silence              reads node.made, value.needed;
                         changes params: units that no reader needs give 0
    join_constants       reads constants, node.reads;
                         changes params: one constant stands for several
    choose_kept          reads value.live, node.reads;
                         fills value.kept, value.spare, node.takes

Attributes are `None` before their pass, and those of `find_live` are valid
until a pass changes params or takes out nodes.
"""

import keras

from l0keras.graph.analyze import find_rules
from l0keras.graph.graph import Graph
from l0keras.graph.trace import trace
from l0keras.stripping.constants import load_params
from l0keras.stripping.constants import propagate_constants
from l0keras.stripping.fold_gates import fold_gates
from l0keras.stripping.join_constants import join_constants
from l0keras.stripping.join_constants import silence
from l0keras.stripping.kept import choose_kept
from l0keras.stripping.live import find_live
from l0keras.stripping.simplify import simplify


def plan(
    model: keras.Model, *, min_units: int = 1, round_to: int | None = None
) -> Graph:
    """Works out what `strip` cuts, without cutting.

    Args:
        model: a built `keras.Model`.
        min_units: an integer, at least 1: how many units each layer keeps.
        round_to: an integer, at least 1, or `None` for 1: widths are rounded
            up to multiples of it.

    Returns:
        A `Graph`: `value.kept` and `node.takes` say what stays of each
        tensor, `node.explanations` why something could not be cut.

    Raises:
        ValueError: `model` is not a built Sequential or functional model or
            has weights that are not finite; `min_units` or `round_to` is below
            1.
    """
    round_to = check_widths(min_units, round_to)
    graph = trace(model)
    find_rules(graph)
    load_params(graph)
    propagate_constants(graph)
    simplify(graph)
    _find(graph, min_units, round_to)
    # Among the channels that are needed, more may be trivial. One kind of
    # change at a time: the first that finds something makes constants and
    # needs stale, which the others would go by.
    while simplify(graph) or silence(graph) or join_constants(graph):
        _find(graph, min_units, round_to)
    choose_kept(graph)
    return graph


def check_widths(min_units, round_to):
    """Refuses widths that are no integers of at least 1.

    Returns:
        `round_to`, and 1 for `None`.
    """
    round_to = 1 if round_to is None else round_to
    for name, number in (("min_units", min_units), ("round_to", round_to)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(
                f"Argument `{name}` must be an integer of at least 1. "
                f"Received: {name}={number!r}"
            )
    return round_to


def _find(graph, min_units, round_to):
    fold_gates(graph)
    propagate_constants(graph)
    find_live(graph, min_units, round_to)
