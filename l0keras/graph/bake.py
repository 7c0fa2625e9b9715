import keras
from keras.src.ops.symbolic_arguments import SymbolicArguments

from l0keras.copying import Copier
from l0keras.gates import HardConcreteGate
from l0keras.gates import log_alpha_of
from l0keras.graph.bake_recurrent import KnownGate
from l0keras.graph.bake_recurrent import arguments_without_gates
from l0keras.graph.bake_recurrent import bake_rnn
from l0keras.graph.bake_recurrent import functional_call
from l0keras.graph.bake_recurrent import given_gates
from l0keras.graph.bake_recurrent import is_gated_rnn
from l0keras.graph.lora import has_lora
from l0keras.graph.lora import merge_lora
from l0keras.layers import GatedLayer
from l0keras.layers import SparseDense


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
            for a gate of its own a `Rescaling` by the test gates. For one of
            Keras with LoRA weights a layer that has them merged. For a gated
            recurrent layer, also inside of wrappers, a functional model of
            all tensors that the call was given: the plain layer, with gates
            of their own behind it.
        """
        layer = call.operation
        if call.arguments.kwargs.get("training"):
            return layer
        if type(layer) in (HardConcreteGate, KnownGate):
            # What it is depends on the rank of its input.
            return self._once(call, lambda: _rescaling(call))
        if is_gated_rnn(layer):
            gates = given_gates(call)
            parts = self._once(layer, lambda: bake_rnn(layer, gates))
            return self._once(call, lambda: functional_call(call, *parts))
        if isinstance(layer, GatedLayer):
            return self._once(layer, lambda: _bake(layer, given_gates(call)))
        if isinstance(layer, SparseDense):
            return self._once(layer, layer.bake)
        if has_lora(layer):
            return self._once(layer, lambda: merge_lora(layer))
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
        if is_gated_rnn(layer):
            return SymbolicArguments(
                arguments_without_gates(call).keras_tensors
            )
        if isinstance(layer, GatedLayer):
            return arguments_without_gates(call)
        if not isinstance(layer, HardConcreteGate):
            return arguments
        if log_alpha_of(call) is None:
            return arguments
        kwargs = dict(arguments.kwargs)
        kwargs.pop("log_alpha", None)
        return SymbolicArguments(arguments.args[0], **kwargs)


def _bake(layer, gates):
    return layer.bake() if gates is None else layer.bake(gates)


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


def _bake_inside(wrapper):
    """A wrapper around a plain layer, or as it is where it has one."""
    if not isinstance(wrapper.layer, (GatedLayer, SparseDense)):
        return wrapper
    copier = Copier()
    copier.replace(wrapper.layer, wrapper.layer.bake())
    return copier.layer(wrapper)
