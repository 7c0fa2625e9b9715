"""Gated recurrent layers as plain ones, and gates of their own behind them."""

import keras
import numpy as np
from keras.src.backend import get_keras_mask
from keras.src.backend import set_keras_mask
from keras.src.ops.numpy import Take
from keras.src.ops.symbolic_arguments import SymbolicArguments

from l0keras.copying import Copier
from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.layers.gated_rnn import GatedRNN

_MERGES = {
    "ave": keras.layers.Average,
    "mul": keras.layers.Multiply,
    "sum": keras.layers.Add,
}


def layers_inside(layer):
    """The layers inside of a wrapper, an empty list for other layers."""
    if type(layer) is keras.layers.TimeDistributed:
        inner = layer.layer
        # Its gates are in front of a merge, where there may be one output.
        merges = getattr(inner, "merge_mode", "concat") != "concat"
        return [] if merges else [inner]
    if type(layer) is keras.layers.Bidirectional:
        return [layer.forward_layer, layer.backward_layer]
    return []


def is_gated_rnn(layer):
    """Whether a layer is a gated recurrent one, or a wrapper around such."""
    if isinstance(layer, GatedRNN):
        return True
    inside = layers_inside(layer)
    return bool(inside) and all(map(is_gated_rnn, inside))


def given_gates(call, numbers=SharedGate.test_gates):
    """The test gates that a call of a gated layer is given, or `None`.

    Args:
        call: a node of a Keras model.
        numbers: a function of a `SharedGate` that gives others of its numbers
            in the place of the test gates, a numpy array.
    """
    tensor = call.arguments.kwargs.get("gates")
    return None if tensor is None else _gates_at(tensor, numbers)


def _gates_at(tensor, numbers):
    history = tensor._keras_history
    if isinstance(history.operation, SharedGate):
        return numbers(history.operation)
    # A cast, or a selection.
    made = history.operation._inbound_nodes[history.node_index]
    gates = _gates_at(made.input_tensors[0], numbers)
    if type(history.operation) is Take:
        _, indices = (*made.arguments.args, *made.arguments.kwargs.values())
        gates = gates[np.asarray(indices)]
    return gates


def arguments_without_gates(call):
    """The arguments of a call but for the gates that it is given."""
    kwargs = dict(call.arguments.kwargs)
    kwargs.pop("gates", None)
    return SymbolicArguments(*call.arguments.args, **kwargs)


def bake_rnn(layer, gates=None):
    """The plain layer that a gated one is, and what comes behind it.

    Args:
        layer: one for which `is_gated_rnn` holds.
        gates: the test gates that its calls are given, if they are.

    Returns:
        A built Keras layer with the name of `layer`, and a function from the
        list of its outputs to the list of those of `layer`. It calls gates,
        see `KnownGate`, and Keras layers.
    """
    plain, gates = _apart(layer, gates)
    mode = getattr(layer, "merge_mode", None)
    if mode not in _MERGES:
        return plain, lambda outputs: _scaled(layer, gates, outputs)
    # Each has gates of its own before they are merged.
    plain.merge_mode = None

    def merged(outputs):
        first, second, *states = _scaled(layer, gates, outputs)
        mask = get_keras_mask(first)
        for x in (*outputs, first, second):
            # Both have the same channels, so no selection can lose it.
            set_keras_mask(x, None)
        merge = _MERGES[mode](
            name=f"{layer.name}_{mode}", dtype=layer.dtype_policy
        )
        output = merge([first, second])
        set_keras_mask(output, mask)
        return [output, *states]

    return plain, merged


def _apart(layer, gates=None):
    """A plain layer, and the gates of each of its outputs before a merge."""
    if isinstance(layer, GatedRNN):
        return layer.bake_apart(gates)
    copier = Copier()
    inside = []
    for inner in layers_inside(layer):
        plain, gates = _apart(inner)
        copier.replace(inner, plain)
        inside.append(gates)
    if len(inside) == 1:
        return copier.layer(layer), inside[0]
    (first, *states), (second, *others) = inside
    outputs = [first, second]
    if layer.merge_mode == "concat":
        outputs = [np.concatenate(outputs)]
    return copier.layer(layer), [*outputs, *states, *others]


def _scaled(layer, gates, outputs):
    scaled = []
    for number, (own, x) in enumerate(zip(gates, outputs, strict=True)):
        gate = KnownGate(
            own,
            name=f"{layer.name}_gates" + (f"_{number}" if number else ""),
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
        scaled.append(gate(x))
    return scaled


def functional_call(call, plain, behind):
    """A model of what a call of a gated layer computes at test time.

    Args:
        call: the call of the gated layer, a node of a Keras model.
        plain, behind: what `bake_rnn` gives for the layer.

    Returns:
        A functional model whose inputs are all tensors of the call but for
        its gates.
    """
    arguments = arguments_without_gates(call)
    given = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)
        for tensor in arguments.keras_tensors
    ]
    tensors = iter(given)
    args, kwargs = arguments.convert(
        lambda x: next(tensors) if isinstance(x, keras.KerasTensor) else x
    )
    outputs = keras.tree.flatten(plain(*args, **kwargs))
    return keras.Model(given, behind(outputs))


class KnownGate(HardConcreteGate):
    """A gate of its own whose test gates are known; not to be computed with.

    Args:
        gates: an array that broadcasts from the last axis of the input on.
    """

    def __init__(self, gates, **kwargs):
        super().__init__(axis=-gates.ndim, **kwargs)
        self._gates = gates.reshape(-1)

    def build(self, inputs_shape):
        pass

    def test_gates(self):
        return self._gates

    def call(self, inputs):
        return inputs
