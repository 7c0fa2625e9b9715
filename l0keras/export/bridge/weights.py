"""Weights from Keras 3 to tf_keras and back."""

import keras

from l0keras.export.bridge.flat_graph import flat_graph
from l0keras.graph.trace import is_functional


def copy_to_tf_keras(graph, model):
    """Copies the weights of a Keras 3 model to its tf_keras equivalent.

    Args:
        graph: the `FlatGraph` of the Keras 3 model.
        model: the `tf_keras.Model`.
    """
    for source, target in _pairs(graph, model):
        arrays = source.get_weights()
        _check_shapes(arrays, target.get_weights(), target)
        target.set_weights(arrays)


def copy_from_tf_keras(source, model):
    """Copies a Keras 3 model, with the weights of its tf_keras equivalent.

    Args:
        source: a `tf_keras.Model` with the layers of `to_tf_keras(model)`.
        model: the Keras 3 model. It is not changed.

    Returns:
        A clone of `model`, not compiled.
    """
    # `clone_model` would change the names of inputs.
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
    """Pairs of equivalent layers that have no layers with weights in them."""
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
            # In tf_keras its mean and variance are arguments, not weights.
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
    """Pairs of equivalent layers inside of two equivalent layers, or `None`.

    Weights of such a layer are copied by its inner layers, because their
    order differs between Keras 3 and tf_keras.
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
