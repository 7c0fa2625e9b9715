from l0keras.graph.analyze import find_rules
from l0keras.graph.analyze import load_params
from l0keras.graph.analyze import propagate_constants
from l0keras.graph.trace import trace
from l0keras.stripping.fold_gates import fold_gates
from l0keras.stripping.join_constants import join_constants
from l0keras.stripping.join_constants import silence
from l0keras.stripping.kept import choose_kept
from l0keras.stripping.live import find_live
from l0keras.stripping.simplify import simplify


def plan(model, min_units=1, round_to=None):
    """Works out what `strip` cuts, without cutting.

    Args:
        model: a built `Sequential` or functional model.
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
    round_to = 1 if round_to is None else round_to
    for name, number in (("min_units", min_units), ("round_to", round_to)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(
                f"Argument `{name}` must be an integer of at least 1. "
                f"Received: {name}={number!r}"
            )
    graph = trace(model)
    find_rules(graph)
    load_params(graph)
    propagate_constants(graph)
    simplify(graph)
    _find(graph, min_units, round_to)
    # Among the channels that are needed, more may be trivial.
    while simplify(graph) or silence(graph) or join_constants(graph):
        _find(graph, min_units, round_to)
    choose_kept(graph)
    return graph


def _find(graph, min_units, round_to):
    fold_gates(graph)
    propagate_constants(graph)
    find_live(graph, min_units, round_to)
