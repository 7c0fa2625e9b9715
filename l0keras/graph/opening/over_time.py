"""What is inside of a `TimeDistributed`, distributed over time by itself."""

import weakref

import keras
from keras import ops
from keras.src.ops import numpy as numpy_ops
from keras.src.ops.core import ConvertToTensor

_MERGES = {
    keras.layers.Add: ops.add,
    keras.layers.Multiply: ops.multiply,
    keras.layers.Maximum: ops.maximum,
    keras.layers.Minimum: ops.minimum,
    numpy_ops.Add: ops.add,
    numpy_ops.Multiply: ops.multiply,
    numpy_ops.Maximum: ops.maximum,
    numpy_ops.Minimum: ops.minimum,
    numpy_ops.Subtract: ops.subtract,
}
# The wrappers around the layers inside, by the wrapper of the model.
_wrappers = weakref.WeakKeyDictionary()


class NotDistributed(Exception):
    """The reason why something does not go for each step alone."""


def distribute(wrapper, inside, tensor):
    """Does for all steps what is inside of a layer does for one.

    One step after the other goes through each layer, as before: so layers
    that draw numbers or move statistics do the same in training.

    Args:
        wrapper: the `TimeDistributed` of the caller's model.
        inside: the `Inside` of its layer, called on one step.
        tensor: the `KerasTensor` of all steps.

    Returns:
        The `KerasTensor` of all steps that the wrapper gives out.

    Raises:
        NotDistributed: something inside is more than a layer of one tensor or
            a sum or the like of several.
    """
    if len(inside.inputs) != 1 or len(inside.outputs) != 1:
        raise NotDistributed("the layer inside has several inputs or outputs")
    found = {id(inside.inputs[0]): tensor}
    for call in inside.calls:
        given = [found[id(t)] for t in call.input_tensors]
        found[id(call.outputs[0])] = _call(wrapper, call, given)
    return found[id(inside.outputs[0])]


def _call(wrapper, call, given):
    operation = call.operation
    arguments = keras.tree.flatten((call.arguments.args, call.arguments.kwargs))
    alone = len(arguments) == len(given) and len(call.outputs) == 1
    if type(operation) is ConvertToTensor:
        # Models begin with one.
        return given[0]
    merge = _MERGES.get(type(operation))
    shapes = {len(tensor.shape) for tensor in given}
    if merge and alone and len(given) > 1 and len(shapes) == 1:
        result = given[0]
        for other in given[1:]:
            result = merge(result, other)
        return result
    if getattr(operation, "activity_regularizer", None) is not None:
        # A wrapper goes by the `call` of its layer, which knows nothing of it.
        raise NotDistributed(
            f"its '{operation.name}' has an activity regularizer"
        )
    if alone and len(given) == 1 and isinstance(operation, keras.Layer):
        layers = _wrappers.setdefault(wrapper, {})
        if id(operation) not in layers:
            layers[id(operation)] = keras.layers.TimeDistributed(
                operation, name=operation.name, dtype=operation.dtype_policy
            )
        return layers[id(operation)](given[0])
    raise NotDistributed(
        f"its '{operation.name}' ({type(operation).__name__}) cannot be "
        "distributed over time"
    )
