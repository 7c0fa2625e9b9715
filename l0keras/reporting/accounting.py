"""The surviving units of a model."""

import keras
import numpy as np

from l0keras.gates import HardConcreteGate
from l0keras.graph.bake_recurrent import layers_inside
from l0keras.graph.costs import CONVOLUTIONS
from l0keras.graph.trace import trace
from l0keras.layers import GatedLayer

_layers = keras.layers


def architecture(model: keras.Model, gated: keras.Model | None = None) -> str:
    """The surviving units of each layer, in the papers' notation.

    A LeNet-5 with 20 and 25 feature maps, and of whose dense layers the first
    reads 45 and the second 462 units, is "20-25-45-462" (Louizos et al.,
    ICLR 2018, table 1).

    Args:
        model: a built `keras.Model`. In one with gates,
            the open test gates of each are counted. In one without, the
            feature maps of convolutions and the inputs of dense layers.
        gated: for a stripped `model`, the one that it was stripped from. Then
            the layers that were gated are counted, in the units that had
            gates.

    Returns:
        A string, one number for each gate or layer. A dense layer whose gates
        are on its outputs counts outputs; gates on single weights count as
        their layer's usual units.

    Raises:
        ValueError: a model has no graph, see `l0keras.strip`.
    """
    sources = sources_of(trace(gated or model, baked=False).nodes)
    left = gated and sources_of(trace(model, baked=False).nodes)
    return architecture_of(sources, left)


def architecture_of(sources, left=None):
    """`architecture` of layers by their names.

    Args:
        sources: the layers of the model, with gates or without.
        left: those of the model that was stripped from it, if there is one.
    """
    gates = {
        name: layer
        for name, layer in sources.items()
        if isinstance(layer, HardConcreteGate)
        or isinstance(layer, GatedLayer)
        and layer.gate is not None
    }
    if left is None and gates:
        numbers = [_open_units(layer) for layer in gates.values()]
    elif left is None:
        numbers = [
            _units(layer, isinstance(layer, _layers.Dense))
            for layer in sources.values()
            if isinstance(layer, (_layers.Dense, *CONVOLUTIONS))
        ]
    else:
        numbers = [
            _units(left[name], _granularity(layer) == "input")
            if name in left and hasattr(left[name], "kernel")
            else _open_units(layer)
            for name, layer in gates.items()
        ]
    return "-".join(str(number) for number in numbers)


def sources_of(nodes):
    """The layers of a traced model by their names, also inside of wrappers."""
    sources = {}
    for node in nodes:
        _add_source(sources, node.name, node.layer)
    return sources


def _add_source(sources, name, layer):
    inside = layers_inside(layer)
    if not inside:
        sources[name] = layer
    for inner in inside:
        _add_source(sources, f"{name}/{inner.name}", inner)


def _granularity(layer):
    if layer.granularity == "weight":
        return layer.default_granularity
    return layer.granularity


def _open_units(layer):
    if isinstance(layer, HardConcreteGate):
        return layer.count_open()
    if layer.granularity != "weight":
        return layer.gate.count_open()
    gates = layer.gate.test_gates()
    depthwise = isinstance(layer, _layers.DepthwiseConv2D)
    if _granularity(layer) == "input":
        units = (-2,)
    else:
        units = (-2, -1) if depthwise else (-1,)
    units = {axis % gates.ndim for axis in units}
    others = tuple(set(range(gates.ndim)) - units)
    return int(np.count_nonzero(np.any(gates != 0, axis=others)))


def _units(layer, inputs):
    shape = layer.kernel.shape
    if isinstance(layer, (_layers.DepthwiseConv1D, _layers.DepthwiseConv2D)):
        return shape[-2] if inputs else shape[-2] * shape[-1]
    if inputs:
        return shape[-2] * getattr(layer, "groups", 1)
    return shape[-1]
