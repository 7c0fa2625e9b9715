import keras
from keras.src.ops.symbolic_arguments import SymbolicArguments

from l0keras.copying import Copier
from l0keras.gates import HardConcreteGate
from l0keras.gates import log_alpha_of
from l0keras.layers import GatedLayer
from l0keras.layers import SparseDense
from l0keras.layers.gated_rnn import GatedRNN


class Baker:
    """The plain Keras layers that the layers of a model are at test time.

    Each layer is baked once, however often the model calls it.
    """

    def __init__(self):
        self._baked = {}

    def source(self, call):
        """What stands for a called layer.

        Args:
            call: a node of a Keras model.

        Returns:
            The operation itself where it has no gates, or samples them at
            test time too. For a gated layer its plain layer, for one with
            sparse storage a dense one, both also inside `TimeDistributed`;
            for a gate of its own a `Rescaling` by the test gates. For a gated
            recurrent layer a functional model of all tensors that the call
            was given: the plain layer, with gates of their own behind it.
        """
        layer = call.operation
        if call.arguments.kwargs.get("training"):
            return layer
        if type(layer) is HardConcreteGate:
            # What it is depends on the rank of its input.
            return self._once(call, lambda: _rescaling(call))
        if isinstance(layer, GatedRNN):
            apart = self._once(layer, layer.bake_apart)
            return self._once(call, lambda: _gated_model(call, *apart))
        if isinstance(layer, (GatedLayer, SparseDense)):
            return self._once(layer, layer.bake)
        if type(layer) is keras.layers.TimeDistributed:
            return self._once(layer, lambda: _bake_inside(layer))
        return layer

    def _once(self, thing, bake):
        if id(thing) not in self._baked:
            self._baked[id(thing)] = bake()
        return self._baked[id(thing)]

    def arguments(self, call):
        """The arguments of the call of what stands for a layer.

        They are those of the call itself, without a `log_alpha` from a
        `GateGenerator`, which is baked into the gates. A functional model is
        given all tensors of the call.
        """
        arguments, layer = call.arguments, call.operation
        if arguments.kwargs.get("training"):
            return arguments
        if isinstance(layer, GatedRNN):
            return SymbolicArguments(arguments.keras_tensors)
        if not isinstance(layer, HardConcreteGate):
            return arguments
        if log_alpha_of(call) is None:
            return arguments
        kwargs = dict(arguments.kwargs)
        kwargs.pop("log_alpha", None)
        return SymbolicArguments(arguments.args[0], **kwargs)


def _rescaling(call):
    layer = call.operation
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


def _gated_model(call, plain, gates):
    """A call of a plain layer with gates on its outputs.

    Args:
        call: the call of the gated layer.
        plain: the plain layer.
        gates: a `HardConcreteGate` for each output.
    """
    given = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)
        for tensor in call.arguments.keras_tensors
    ]
    tensors = iter(given)
    args, kwargs = call.arguments.convert(
        lambda x: next(tensors) if isinstance(x, keras.KerasTensor) else x
    )
    outputs = keras.tree.flatten(plain(*args, **kwargs))
    return keras.Model(
        given, [gate(x) for gate, x in zip(gates, outputs, strict=True)]
    )


def _bake_inside(wrapper):
    """A wrapper around a plain layer, or as it is where it has one."""
    if not isinstance(wrapper.layer, (GatedLayer, SparseDense)):
        return wrapper
    copier = Copier()
    copier.replace(wrapper.layer, wrapper.layer.bake())
    return copier.layer(wrapper)
