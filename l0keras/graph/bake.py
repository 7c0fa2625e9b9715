import keras
from keras.src.ops.symbolic_arguments import SymbolicArguments

from l0keras.copying import Copier
from l0keras.gates import HardConcreteGate
from l0keras.gates import log_alpha_of
from l0keras.layers import GatedLayer
from l0keras.layers import SparseDense


def bake(call):
    """The plain Keras layer that a called layer is at test time.

    Args:
        call: a node of a Keras model.

    Returns:
        The operation itself where it has no gates, or samples them at test
        time too. For a gated layer its plain layer, for one with sparse
        storage a dense one, both also inside `TimeDistributed`; for a gate
        of its own a `Rescaling` by the test gates.
    """
    layer = call.operation
    if call.arguments.kwargs.get("training"):
        return layer
    if isinstance(layer, (GatedLayer, SparseDense)):
        return layer.bake()
    if type(layer) is keras.layers.TimeDistributed:
        return _bake_inside(layer)
    if type(layer) is not HardConcreteGate:
        return layer
    shape = call.input_tensors[0].shape
    rank = len(shape)
    axes = (layer.axis,) if isinstance(layer.axis, int) else layer.axis
    axes = {axis % rank for axis in axes}
    # Of full rank, so that it means the same under every image data format.
    scale = layer.test_gates().reshape(
        [shape[axis] if axis in axes else 1 for axis in range(rank)]
    )
    rescaling = keras.layers.Rescaling(
        scale.tolist(), name=layer.name, dtype=layer.dtype_policy
    )
    rescaling.trainable = layer.trainable
    return rescaling


def baked_arguments(call):
    """The arguments of the call of what `bake` returns.

    They are those of the call itself, without a `log_alpha` from a
    `GateGenerator`, which is baked into the gates.
    """
    arguments = call.arguments
    if not isinstance(call.operation, HardConcreteGate):
        return arguments
    if log_alpha_of(call) is None or arguments.kwargs.get("training"):
        return arguments
    kwargs = dict(arguments.kwargs)
    kwargs.pop("log_alpha", None)
    return SymbolicArguments(arguments.args[0], **kwargs)


def _bake_inside(wrapper):
    """A wrapper around a plain layer, or as it is where it has one."""
    if not isinstance(wrapper.layer, (GatedLayer, SparseDense)):
        return wrapper
    copier = Copier()
    copier.replace(wrapper.layer, wrapper.layer.bake())
    return copier.layer(wrapper)
