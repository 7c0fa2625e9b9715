"""Groups of weights over several variables, and their norms."""

import re

import keras
import numpy as np

from l0keras.graph.analyze import channel_graph
from l0keras.graph.graph import weights_by_name
from l0keras.graph.groups import channel_groups
from l0keras.regularizers.weight_groups import WeightGroups

_layers = keras.layers
_RECURRENT = (_layers.SimpleRNN, _layers.LSTM, _layers.GRU)
_CONVOLUTIONS = (
    _layers.Conv1D,
    _layers.Conv2D,
    _layers.Conv3D,
    _layers.DepthwiseConv1D,
    _layers.DepthwiseConv2D,
)
# Which axes of a kernel tell its groups apart, counted from the last one.
_AXES = {
    "input_channel": lambda rank: [rank - 2],
    "kernel_position": lambda rank: list(range(rank - 1)),
    "weight": lambda rank: list(range(rank)),
}
KINDS = ("channel", *_AXES, "layer")


def weight_groups(
    model: keras.Model, by: str = "channel", include: str | None = None
) -> list[WeightGroups]:
    """The groups of weights of a model that a penalty may send to 0.

    Args:
        model: a built `keras.Model`.
        by: what a group is.

            - `"channel"`: a zero-invariant group of `l0keras.channel_groups`:
              all that makes a channel and what is tied to it, which is a
              filter of a convolution or a unit of a dense or recurrent layer
              with its bias, the gamma and beta of a normalization, the filter
              of a depthwise convolution, and what a residual connection adds
              to it. `strip` cuts what is 0. Channels that have to stay, as
              those of outputs, are in no group.
            - `"input_channel"`: all weights of a kernel that read a channel.
            - `"kernel_position"`: all that read a channel at one position of
              the window of a convolution: a filter's shape, in the terms of
              Wen et al., NeurIPS 2016.
            - `"weight"`: each weight of a kernel for itself.
            - `"layer"`: all weights of a layer with a kernel; there is one
              `WeightGroups` for all layers.
        include: a regular expression for the names of the groups, or, but for
            channels, of layers; `None` for all of them.

    Returns:
        A list of `WeightGroups`. For channels there is one for each `Group`,
        of the name of its first maker, and else one for each kernel, of the
        name of its layer.

    Raises:
        ValueError: an argument out of its range, or a model without any such
            groups.

    Example:

    >>> l0keras.weight_groups(model, by="channel", include="conv")
    """
    if by not in KINDS:
        raise ValueError(
            f"Argument `by` must be one of {KINDS}. Received: by={by!r}"
        )
    try:
        chosen = re.compile(include or "")
    except (re.error, TypeError) as error:
        raise ValueError(
            "Argument `include` must be a regular expression. "
            f"Received: include={include!r}, {error}"
        ) from None
    groups = _by_channel(model) if by == "channel" else _by_layer(model, by)
    found = [group for group in groups if chosen.search(group[0])]
    if not found:
        names = [name for name, _, _ in groups]
        raise ValueError(
            f"Argument `model` must have groups by {by!r} whose weights train. "
            f"Received: model '{model.name}' with "
            f"{names or 'none'}, include={include!r}"
        )
    if by == "layer":
        return [_layers_as_groups(found)]
    return [WeightGroups(*group) for group in found]


def _by_channel(model):
    found = []
    for group in channel_groups(model):
        parts = [(v, index) for v, index in group.parts if v.trainable]
        if parts and not group.fixed:
            found.append((group.name, group.size, parts))
    return found


def _by_layer(model, by):
    found = []
    layers = {id(node.layer): node.layer for node in channel_graph(model).nodes}
    for layer in layers.values():
        weights = weights_by_name(layer)
        kernels = {
            name: variable
            for name, variable in weights.items()
            if variable.trainable
            and name.endswith("kernel")
            and len(variable.shape) > 1
        }
        if by == "layer":
            parts = [
                (variable, np.zeros((1,) * len(variable.shape), int))
                for variable in weights.values()
                if variable.trainable
            ]
            if kernels:
                found.append((layer.name, 1, parts))
            continue
        if by != "weight":
            kernels = _with_inputs(layer, kernels)
        for name, variable in kernels.items():
            own = layer.name if len(kernels) == 1 else f"{layer.name}/{name}"
            shape = [1] * len(variable.shape)
            for axis in _AXES[by](len(shape)):
                shape[axis] = variable.shape[axis]
            size = int(np.prod(shape))
            index = np.arange(size).reshape(shape)
            found.append((own, size, [(variable, index)]))
    return found


def _with_inputs(layer, kernels):
    """The kernels whose second axis from the end is that of the inputs."""
    if isinstance(layer, (_layers.Dense, *_CONVOLUTIONS)):
        return kernels
    if isinstance(layer, _RECURRENT):
        return {
            name: variable
            for name, variable in kernels.items()
            if not name.endswith("recurrent_kernel")
        }
    return {}


def _layers_as_groups(found):
    parts = [
        (variable, index + number)
        for number, (_, _, own) in enumerate(found)
        for variable, index in own
    ]
    return WeightGroups("layers", len(found), parts)
