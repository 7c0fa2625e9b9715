"""Plain layers that stand for gated ones while a cut is planned."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops
from keras.src.ops.symbolic_arguments import SymbolicArguments

from l0keras.copying import Copier
from l0keras.gates import GateGenerator
from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.gates import log_alpha_of
from l0keras.graph.bake_recurrent import layers_inside
from l0keras.graph.lora import has_lora
from l0keras.layers import GatedLayer
from l0keras.layers.gated_rnn import GatedRNN


class StandIns:
    """Finds the layers whose channels the graph knows, for a `trace`.

    A gated layer is the plain one, and a gate of its own a scaling. What they
    stand for stays what the smaller model is made of, so unlike a `Baker`
    this bakes nothing.
    """

    def __init__(self):
        self._made = {}

    def source(self, call):
        """What stands for a called layer: itself, where nothing does."""
        layer = call.operation
        if not _is_understood(call):
            return layer
        if type(layer) is HardConcreteGate:
            return self._once(layer, lambda: _scaling(call))
        if gated_parts(layer):
            return self._once(layer, lambda: _plain(layer))
        return layer

    def _once(self, layer, make):
        if id(layer) not in self._made:
            # With the layer, whose id is that of a living object only.
            self._made[id(layer)] = make(), layer
        return self._made[id(layer)][0]

    def arguments(self, call):
        """The arguments of a call, without a `log_alpha` of a generator."""
        arguments = call.arguments
        if not isinstance(call.operation, HardConcreteGate):
            return arguments
        if log_alpha_of(call) is None or not _is_understood(call):
            return arguments
        kwargs = dict(arguments.kwargs)
        kwargs.pop("log_alpha", None)
        return SymbolicArguments(arguments.args[0], **kwargs)


def gated_parts(layer):
    """The gated layers that a layer is, or is a wrapper around; or none."""
    parts = layers_inside(layer) or [layer]
    if not all(isinstance(part, GatedLayer) for part in parts):
        return []
    return parts


def generator_of(call):
    """The `log_alpha` of a call: the call of its `GateGenerator` and an index.

    `None` for a gate that has its own, or one that something else makes.
    """
    tensor = log_alpha_of(call)
    history = getattr(tensor, "_keras_history", None)
    if history is None or not isinstance(history.operation, GateGenerator):
        return None
    generator = history.operation
    return generator._inbound_nodes[history.node_index], history.tensor_index


def _is_understood(call):
    """Whether something may stand for a called layer."""
    layer = call.operation
    if call.arguments.kwargs.get("training") or has_lora(layer):
        return False
    if not isinstance(layer, HardConcreteGate):
        return True
    if log_alpha_of(call) is not None and generator_of(call) is None:
        return False
    if isinstance(layer, SharedGate):
        return True
    # One scaling has to do for all calls.
    ranks = {len(node.input_tensors[0].shape) for node in layer._inbound_nodes}
    return len(ranks) <= 1


def _scaling(call):
    """A scaling by 0 where gates are closed for good, by 1 elsewhere."""
    layer = call.operation
    shape = call.input_tensors[0].shape
    axes = gated_axes(layer, len(shape))
    scale = (
        may_open(layer)
        .astype("float32")
        .reshape([n if axis in axes else 1 for axis, n in enumerate(shape)])
    )
    return keras.layers.Rescaling(
        scale.tolist(), name=layer.name, dtype=layer.dtype_policy
    )


def gated_axes(gate, rank):
    """The axes of a gate, in ascending order, from 0 on."""
    axes = (gate.axis,) if isinstance(gate.axis, int) else gate.axis
    return sorted(axis % rank for axis in axes)


def may_open(gate):
    """Which of the gates that are left are not closed for good."""
    may = ~gate.closed_for_good()
    for axis, mask in enumerate(gate.kept or ()):
        may = np.compress(mask, may, axis=axis)
    return may


def _plain(layer):
    """The plain layer for a gated one, or such a wrapper around plain ones."""
    copier = Copier()
    plain = []
    for part in gated_parts(layer):
        gates = ops.ones(number_of_gates(part))
        plain.append(part.bake_with(gates))
        copier.replace(part, plain[-1])
    return copier.layer(layer) if layers_inside(layer) else plain[0]


def number_of_gates(part):
    """The shape of the gates that are left in a gated layer, a tuple."""
    gated = next(weight for weight in part.gated_weights() if weight.axes)
    if part.granularity == "weight":
        return gated.sizes
    return (math.prod(gated.sizes),)


def gated_on(part, gates, otherwise):
    """The gate of each weight of a gated layer.

    Args:
        part: a gated layer that is built.
        gates: a numpy array with a number for each of its gates.
        otherwise: the number of weights without a gate.

    Returns:
        A list of numpy arrays, for the weights of the plain layer.
    """
    found = []
    for weight in _with_columns(part):
        ones = np.ones(tuple(weight.weight.shape), "float32")
        if not weight.axes:
            found.append(ones * otherwise)
            continue
        weight = dataclasses.replace(weight, weight=ones, scaled=True)
        gates = np.asarray(gates, "float32")
        found.append(ops.convert_to_numpy(weight.bake(gates)))
    return found


def _with_columns(part):
    """The `GatedWeight`s, those of recurrent units by what makes the units.

    For a unit that is closed reads other units, too, and is not read by any.
    """
    weights = part.gated_weights()
    if isinstance(part, GatedRNN) and not part.mixes_units:
        weights[1] = part.into_units(weights[1].weight)
    return weights
