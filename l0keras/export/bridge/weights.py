"""Weights from Keras 3 to tf_keras and back."""

import keras

from l0keras.export.bridge.flat_graph import flat_graph
from l0keras.graph.trace import is_functional


def copy_to_tf_keras(graph, model):
    """Gives a model the weights of the layers that it was made from."""
    for source, target in _pairs(graph, model):
        arrays = source.get_weights()
        _check_shapes(arrays, target.get_weights(), target)
        target.set_weights(arrays)


def copy_from_tf_keras(source, model):
    """A copy of a Keras 3 model with the weights that training gave it.

    Args:
        source: a `tf_keras.Model` with the layers of the model that
            `to_tf_keras` made of `model`.
        model: the Keras 3 model. It is not changed.

    Returns:
        A clone of `model`, not compiled.
    """
    # Unlike `clone_model` this keeps the names of inputs.
    clone = type(model).from_config(model.get_config())
    clone.set_weights(model.get_weights())
    names = [call.name for call in flat_graph(model, _open).calls]
    graph = flat_graph(clone, _open)
    for call, name in zip(graph.calls, names, strict=True):
        call.name = name
    for target, layer in _pairs(graph, source):
        arrays = layer.get_weights()
        _check_shapes(arrays, target.get_weights(), target)
        target.set_weights(arrays)
    return clone


def _open(name, layer, reason):
    raise ValueError(f"'{name}' ({type(layer).__name__}): {reason}")


def _pairs(graph, model):
    """Each Keras 3 layer without layers in it, and that of tf_keras."""
    found = {}
    for call in graph.calls:
        if isinstance(call.layer, keras.Layer) and id(call.layer) not in found:
            found[id(call.layer)] = call.layer, model.get_layer(call.name)
    stack = list(found.values())
    while stack:
        layer, theirs = stack.pop()
        if is_functional(layer):
            stack.extend(_pairs(flat_graph(layer, _open), theirs))
            continue
        inner = parts(layer, theirs)
        if inner is not None:
            stack.extend(inner)
        elif type(layer).__name__ != "Normalization":
            # That one computes with its arguments there.
            yield layer, theirs


def _check_shapes(arrays, wanted, layer):
    shapes = [array.shape for array in arrays]
    needed = [array.shape for array in wanted]
    if shapes != needed:
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) must have weights "
            f"of shapes {needed}. Received: {shapes}"
        )


def parts(layer, theirs):
    """The layers inside a layer that have its weights, and their equivalents.

    The order of the weights of a layer made of others is not the same.
    """
    name = type(layer).__name__
    if name == "Bidirectional":
        return [
            (layer.forward_layer, theirs.forward_layer),
            (layer.backward_layer, theirs.backward_layer),
        ]
    if name == "TimeDistributed":
        return [(layer.layer, theirs.layer)]
    if name == "RNN":
        return [(layer.cell, theirs.cell)]
    if name == "StackedRNNCells":
        return list(zip(layer.cells, theirs.cells, strict=True))
    return None
