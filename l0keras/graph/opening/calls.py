"""Calls of layers, and those inside of a layer."""

import inspect

import keras
from keras.src.ops.symbolic_arguments import SymbolicArguments

from l0keras.graph.opening.closed import Closed


class Call:
    """A call inside of a layer, as a node of Keras has it.

    Attributes:
        operation: the layer of the caller's model, or an op.
        made: whether the call made the operation.
        arguments: the `SymbolicArguments`, without `None` for masks and for
            `training`, which would hide those from outside, and without
            `None` where that is the default.
        input_tensors, outputs: lists of `KerasTensor`.
    """

    def __init__(self, node, operation, training, made=False):
        kwargs = {
            key: value
            for key, value in node.arguments.kwargs.items()
            if value is not None or not _may_leave_out(operation, key)
        }
        kwargs.pop("training", None)
        if training is not None:
            kwargs["training"] = training
        self.operation = operation
        self.made = made or not isinstance(operation, keras.Layer)
        self.arguments = SymbolicArguments(*node.arguments.args, **kwargs)
        self.input_tensors = self.arguments.keras_tensors
        self.outputs = node.outputs


def _may_leave_out(operation, key):
    """Whether an argument of a call that is `None` need not be given."""
    parameter = inspect.signature(operation.call).parameters.get(key)
    default = None if parameter is None else parameter.default
    return key in ("mask", "training") or (parameter and default is None)


class TopCall:
    """A call that is no node of Keras."""

    def __init__(self, operation, arguments):
        self.operation = operation
        self.arguments = arguments
        self.input_tensors = arguments.keras_tensors


class Inside:
    """What is in a layer.

    Attributes:
        inputs: a `KerasTensor` for each tensor that the layer is called with.
        outputs: those that the layer returns, flat.
        calls: a list of calls, each after those that it depends on.
    """

    def __init__(self, inputs, outputs, calls):
        self.inputs = inputs
        self.outputs = outputs
        self.calls = calls


def calls_between(inputs, outputs, reads=lambda call: call.input_tensors):
    """The nodes of Keras between tensors, in topological order.

    Args:
        inputs, outputs: lists of `KerasTensor`.
        reads: gives the tensors that a call depends on.

    Raises:
        Closed: an output depends on another input.
    """
    done = {id(tensor) for tensor in inputs}
    order = []
    stack = [(tensor, False) for tensor in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        if id(tensor) in done:
            continue
        history = tensor._keras_history
        if history.operation is None:
            raise Closed("depends on a tensor from outside")
        call = history.operation._inbound_nodes[history.node_index]
        if call.is_input:
            raise Closed("depends on an input from outside")
        if ready:
            order.append(call)
            done.update(id(output) for output in call.outputs)
            continue
        stack.append((tensor, True))
        stack.extend((t, False) for t in reversed(reads(call)))
    return order


def training_of(call):
    """Whether a layer is called in training mode; `None` if as the model is.

    A functional model hands its own mode on to all of its layers, over a
    `training=False` that they were called with. Only in a `call` that is
    written down it counts.
    """
    training = call.arguments.kwargs.get("training")
    if training is False and not isinstance(call, Call):
        return None
    return training


def takes_training(layer):
    """Whether the `call` of a layer has the argument `training`."""
    return getattr(layer, "_call_has_training_arg", False)
