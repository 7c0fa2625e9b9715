"""Refuses graphs that do not show all that a layer does."""

import keras
import numpy as np

from l0keras.graph.opening.closed import Closed
from l0keras.graph.opening.closed import NotShown
from l0keras.graph.rules.table import rule_for


def check_same_graph(orders, runs, inputs):
    """Refuses graphs of the two modes that differ.

    Args:
        orders: for each mode that was traced the nodes, in their order.
        runs: its outputs, a list of `KerasTensor`.
        inputs: a list of `KerasTensor`.
    """
    if len(orders) == 1:
        return
    first, second = (
        _signature(order, outputs, inputs)
        for order, outputs in zip(orders, runs)
    )
    if first != second:
        raise Closed("does something else in training")


def _signature(order, outputs, inputs):
    """A graph as a list of strings, but for what `training` is."""
    numbers = {id(tensor): str(i) for i, tensor in enumerate(inputs)}

    def number(x):
        if isinstance(x, keras.KerasTensor):
            return f"tensor {numbers.get(id(x))}"
        return _exactly(x)

    lines = []
    for node in order:
        args, kwargs = node.arguments.convert(number)
        kwargs.pop("training", None)
        kwargs = {k: v for k, v in kwargs.items() if v != "None"}
        operation = node.operation
        name = id(operation)
        if not isinstance(operation, keras.Layer):
            settings = {
                key: keras.tree.map_structure(_exactly, value)
                for key, value in vars(operation).items()
                if key != "name" and not key.startswith("_")
            }
            name = type(operation), repr(settings)
        elif rule_for(type(operation)) and not operation.variables:
            # It may be made in each call, as by `layers.concatenate`.
            config = {**operation.get_config(), "name": None}
            name = type(operation), repr(config)
        lines.append(repr((name, args, sorted(kwargs.items()))))
        for output in node.outputs:
            numbers[id(output)] = str(len(numbers))
    return [*lines, *map(number, outputs)]


def _exactly(x):
    """What tells a thing from others; `repr` leaves out most of an array."""
    if isinstance(x, np.ndarray) or keras.ops.is_tensor(x):
        array = keras.ops.convert_to_numpy(x)
        return repr((array.dtype, array.shape, array.tobytes()))
    return repr(x)


def check_variables(copy, order, lift):
    """Refuses a layer of which the graph does not have all variables.

    Such as one that looks up an embedding at constant positions: in a graph
    that is a constant, which does not train.
    """
    found = set()
    for node in order:
        for given in keras.tree.flatten(
            (node.arguments.args, node.arguments.kwargs)
        ):
            if isinstance(given, keras.Variable):
                raise not_shown(given)
        for variable in getattr(node.operation, "variables", ()):
            found.add(id(variable))
    if lift is not None:
        found.update(map(id, lift.used))
    for variable in copy.variables:
        if id(variable) not in found and not _is_metric(copy, variable):
            raise not_shown(variable)


def check_tracked(copy, order, originals):
    """Refuses a layer that calls others which its model does not know.

    Such as those in the closure of a function: they would begin to train.
    """
    known = {id(layer) for layer in copy._flatten_layers()}
    for node in order:
        layer = node.operation
        if id(layer) in known or id(layer) not in originals:
            continue
        if getattr(layer, "trainable_variables", ()):
            raise Closed(
                f"calls '{layer.name}', which is no attribute of it and does "
                "not train with it"
            )


def not_shown(variable):
    """The error about a variable that a graph does not have."""
    return NotShown(
        f"its variable '{variable.path}' is read where its graph does not "
        "show it"
    )


def _is_metric(layer, variable):
    metrics = getattr(layer, "metrics_variables", ())
    return any(variable is metric for metric in metrics)
