"""The record that `strip` leaves on its result, for `report`."""

# An attribute of the object alone. A file has no place for it: of a functional
# model's config, Keras drops every key that it does not know when it loads the
# file. Names and layers would come back, but those are the caller's. `report`
# finds the sizes again by the widths.
_NAME = "_l0keras_strip"


def write_record(model, graph, min_units, round_to):
    """Says on a stripped model how it was stripped and what had to stay.

    Args:
        model: the result of `strip`.
        graph: the `Graph` of the plan.
        min_units, round_to: those of `strip`.
    """
    # Past `__setattr__`, which would make Keras track the dictionary.
    vars(model)[_NAME] = {
        "min_units": min_units,
        "round_to": round_to,
        **explain(graph),
    }


def read_record(model):
    """The record of a stripped model, `None` where there is none.

    Training keeps it; a file, a clone and a copy do not have it.

    Returns:
        A dictionary of plain Python types: `min_units` and `round_to` as
        given to `strip`, `kept` and `selected` as in `explain`.
    """
    return vars(model).get(_NAME)


def explain(graph):
    """What a plan could not cut, in plain Python types.

    Returns:
        A dictionary: `kept` is a list of dictionaries with `layer` and
        `reason`; `selected`, for layers with an index selection in front, one
        of dictionaries with `layer`, `reads` and `of` (numbers of channels).
    """
    return {
        "kept": [
            {"layer": node.name, "reason": reason}
            for node in graph.nodes
            for reason in node.explanations
        ],
        "selected": [
            {"layer": node.name, "reads": len(take), "of": len(value.kept)}
            for node in graph.nodes
            for take, value in zip(node.takes, node.inputs)
            if take is not None
        ],
    }
