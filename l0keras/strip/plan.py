from l0keras import graph as channel_graph
from l0keras.strip.fold_gates import fold_gates


def plan(model, min_units=1):
    """Works out what `strip` cuts, without cutting.

    Args:
        model: a built `Sequential` or functional model.
        min_units: an integer, at least 1: how many units each layer keeps.

    Returns:
        A `Graph`: `value.kept` and `node.takes` say what stays of each
        tensor, `node.reasons` why something could not be cut.

    Raises:
        ValueError: `model` is not a built Sequential or functional model or
            has weights that are not finite; `min_units` is below 1.
    """
    if not isinstance(min_units, int) or min_units < 1:
        raise ValueError(
            "Argument `min_units` must be an integer of at least 1. "
            f"Received: min_units={min_units!r}"
        )
    graph = channel_graph.trace(model)
    channel_graph.find_rules(graph)
    channel_graph.load_params(graph)
    fold_gates(graph)
    channel_graph.propagate_constants(graph)
    channel_graph.find_live(graph, min_units)
    channel_graph.choose_kept(graph)
    return graph
