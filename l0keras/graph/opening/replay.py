"""Does again what a traced layer did, on inputs of unknown sizes."""

import keras
import numpy as np
from keras.src.backend import get_keras_mask
from keras.src.ops.numpy import Add
from keras.src.ops.numpy import BroadcastTo
from keras.src.ops.numpy import Reshape

from l0keras.graph.opening import lifting
from l0keras.graph.opening.calls import calls_between
from l0keras.graph.opening.closed import CannotRun
from l0keras.graph.opening.closed import Closed
from l0keras.graph.opening.closed import DependsOnSize
from l0keras.graph.opening.closed import message


def replay(outputs, known, fresh, stand_ins, lift=None, hands_on=False):
    """Does on other inputs what led from `known` to `outputs`.

    Products with variables that a layer has itself are made by layers.

    Args:
        outputs: a structure of tensors.
        known: inputs with sizes that stand in for unknown ones.
        fresh: those in their places, by the same ids.
        stand_ins: the sizes.
        lift: the `Lift` of the layer, if it has variables.
        hands_on: whether sums of tensors with masks are made by layers, which
            hand masks on.

    Returns:
        A structure of tensors like `outputs`.
    """
    if not stand_ins and lift is None and not hands_on:
        return outputs
    tensors = {id(known[key]): fresh[key] for key in known}

    def other(x):
        if isinstance(x, keras.KerasTensor):
            return tensors[id(x)]
        if any(_stands_in(n, stand_ins) for n in getattr(x, "shape", ())):
            return _shared_part(x, stand_ins)
        return x

    flat = keras.tree.flatten(outputs)
    order = calls_between(list(known.values()), flat)
    products = _products(lift, order, flat) if lift else {}
    for node in order:
        if id(node.outputs[0]) in tensors:
            continue
        if id(node) in products:
            dense, end = products[id(node)]
            given = keras.tree.flatten(
                (node.arguments.args, node.arguments.kwargs)
            )
            tensors[id(end.outputs[0])] = dense(other(given[0]))
            tensors.setdefault(id(node.outputs[0]), None)
            continue
        args, kwargs = keras.tree.map_structure(
            other, (node.arguments.args, node.arguments.kwargs)
        )
        operation = node.operation
        if _broadcasts_later(node, stand_ins):
            given = other(node.input_tensors[0])
            more = len(node.outputs[0].shape) - len(given.shape)
            if more:
                given = keras.ops.expand_dims(given, tuple(range(more)))
            tensors[id(node.outputs[0])] = given
            continue
        if hands_on and _adds_masked(operation, args):
            operation = keras.layers.Add(dtype=args[0].dtype)
            args, kwargs = (list(args),), {}
        elif not isinstance(operation, keras.Layer):
            operation = _of_any_size(node, stand_ins)
        try:
            results = keras.tree.flatten(operation(*args, **kwargs))
        except Exception as error:
            raise CannotRun(message(error)) from error
        for tensor, result in zip(node.outputs, results, strict=True):
            tensors[id(tensor)] = result
    return keras.tree.map_structure(other, outputs)


def _adds_masked(operation, args):
    """Whether an op is a sum of two like tensors that both carry masks."""
    return (
        type(operation) is Add
        and len(args) == 2
        and all(
            isinstance(x, keras.KerasTensor) and get_keras_mask(x) is not None
            for x in args
        )
        and args[0].shape == args[1].shape
        and args[0].dtype == args[1].dtype
    )


def _broadcasts_later(node, stand_ins):
    """Whether a call only repeats a tensor along sizes that are not known.

    Most of what reads it does that by itself.
    """
    if not isinstance(node.operation, BroadcastTo):
        return False
    (given,), (made,) = node.input_tensors, node.outputs
    sizes = (1,) * (len(made.shape) - len(given.shape)) + tuple(given.shape)
    return all(
        one == other or (one == 1 and _stands_in(other, stand_ins))
        for one, other in zip(sizes, made.shape, strict=True)
    )


def _products(lift, order, outputs):
    try:
        return lift.products(order, outputs)
    except lifting.NotLifted as error:
        raise Closed(f"has variables of its own: {error}") from error


def _shared_part(constant, stand_ins):
    """A constant of size 1 where its size is not known: it will broadcast.

    Such as a causal mask that was made for each example of a batch.
    """
    array = keras.ops.convert_to_numpy(constant)
    for axis, size in enumerate(array.shape):
        if _stands_in(size, stand_ins):
            first = array.take([0], axis)
            if np.any(array != first):
                raise DependsOnSize(
                    "makes constants of a size that is not known; call the "
                    "model on inputs of a fixed size"
                )
            array = first
    return keras.ops.convert_to_tensor(array)


def _stands_in(number, stand_ins):
    return (
        isinstance(number, int)
        and number != 0
        and any(number % size == 0 for size in stand_ins)
    )


def _of_any_size(node, stand_ins):
    """An op that does not say what sizes there are.

    A shape may leave out one of its sizes, so that is what it does with one
    that is not known.
    """
    operation = node.operation
    copy = object.__new__(type(operation))
    vars(copy).update(vars(operation), _inbound_nodes=[], _outbound_nodes=[])
    for key, value in vars(operation).items():
        if key.startswith("_"):
            continue
        sizes = keras.tree.flatten(value)
        if not any(_stands_in(n, stand_ins) for n in sizes):
            continue
        if not isinstance(operation, Reshape):
            raise DependsOnSize(
                f"{type(operation).__name__} needs a size that is not known"
            )
        sizes = [
            -1 if _stands_in(size, stand_ins) else size
            for size in node.outputs[0].shape
        ]
        if sizes.count(-1) > 1:
            raise DependsOnSize("Reshape needs two sizes that are not known")
        # By its constructor, which notes what will be saved.
        return Reshape(tuple(sizes), name=operation.name)
    return copy
