"""What every rule has to hold, whatever the layer."""

import keras
import numpy as np

import l0keras
from l0keras.graph.analyze import find_rules
from l0keras.graph.graph import weights_by_name
from l0keras.graph.rules import BARRIER
from l0keras.graph.trace import as_functional
from l0keras.graph.trace import trace
from l0keras.stripping.constants import load_params
from l0keras.stripping.constants import propagate_constants
from l0keras.stripping.plan import plan

to_numpy = keras.ops.convert_to_numpy


def randomize(model, rng, closed=0.4):
    """Moves all weights and zeroes a share of the filters of each kernel.

    Layers whose name starts with "all_" keep all their filters.
    """
    for layer in model._flatten_layers():
        for weight in layer.weights:
            shape = tuple(weight.shape)
            values = rng.normal(size=shape)
            if "variance" in weight.name:
                values = rng.uniform(0.5, 2.0, shape)
            elif weight.name == "kernel":
                values /= np.sqrt(np.prod(shape[:-1]))
                units = rng.random(shape[-1]) < closed
                if not layer.name.startswith("all_"):
                    values[..., units] = 0.0
            elif weight.name == "count":
                continue
            weight.assign(values)


def spread(layer, rng):
    """Gives all weights of a layer, or model, numbers other than zero."""
    for weight in layer.weights:
        scale = 0.5 if len(weight.shape) > 1 else 1.0
        weight.assign(scale * rng.normal(size=weight.shape))


def weights_of(layer):
    """The weights of a layer by the end of their paths, as arrays."""
    return {
        name: to_numpy(weight).copy()
        for name, weight in weights_by_name(layer).items()
    }


def assign(layer, arrays):
    for name, weight in weights_by_name(layer).items():
        weight.assign(arrays[name])


def close(layer, units, bias=0.0):
    """Zeroes some filters of a layer, so that their output is `bias`."""
    kernel = to_numpy(layer.kernel).copy()
    kernel[..., units] = 0.0
    layer.kernel.assign(kernel)
    values = to_numpy(layer.bias).copy()
    values[units] = bias
    layer.bias.assign(values)


def inputs_for(model, rng, batch=3, length=5):
    """Random data for a model; open sizes become `length`."""
    return [
        _sample(
            rng,
            (
                tensor.shape[0] or batch,
                *(size or length for size in tensor.shape[1:]),
            ),
            tensor.dtype,
        )
        for tensor in model.inputs
    ]


def _sample(rng, shape, dtype):
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype == "int32":
        return rng.integers(0, 4, shape).astype("int32")
    return rng.normal(size=shape).astype("float32")


def outputs_of(model, inputs):
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [to_numpy(tensor) for tensor in keras.tree.flatten(outputs)]


def same(actual, expected, tolerance=1e-5):
    for a, b in zip(actual, expected, strict=True):
        scale = max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def constants_of(model):
    """The traced graph with its constants, before anything is folded."""
    graph = trace(model)
    find_rules(graph)
    load_params(graph)
    propagate_constants(graph)
    return graph


def check_constants(model, inputs):
    """Constants are what the model computes, whatever the input."""
    graph = constants_of(model)
    values = [value for value in graph.values if value.size]
    values = [v for v in values if np.any(~np.isnan(v.constants))]
    # What is inside of opened layers is no part of the model's own graph.
    own = {
        id(tensor)
        for operation in as_functional(model).operations
        for node in operation._inbound_nodes
        for tensor in node.outputs
    }
    values = [v for v in values if id(v.tensor) in own]
    if not values:
        return graph
    given = as_functional(model).input
    probe = keras.Model(given, [value.tensor for value in values])
    for value, array in zip(values, outputs_of(probe, inputs), strict=True):
        known = ~np.isnan(value.constants)
        array = np.moveaxis(array, value.axis, -1)
        array = array.reshape(-1, value.size)[:, known]
        expected = np.broadcast_to(value.constants[known], array.shape)
        np.testing.assert_allclose(array, expected, rtol=2e-5, atol=2e-5)
    return graph


def check(model, rng, tmp_path=None, fixpoint=True):
    """Strips a model and checks all that always has to hold.

    Args:
        model: the model; its inputs of type int32 are indices below 4.
        rng: a numpy `Generator`.
        tmp_path: where to save the result, to see that it loads, or `None`.
        fixpoint: whether stripping again must find nothing more.

    Returns:
        The stripped model.
    """
    inputs = inputs_for(model, rng)
    expected = outputs_of(model, inputs)
    weights = model.get_weights()
    stripped = l0keras.strip(model)
    same(outputs_of(stripped, inputs), expected)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    again = l0keras.strip(stripped)
    assert again.count_params() <= stripped.count_params()
    if fixpoint:
        assert again.count_params() == stripped.count_params()
        assert len(again.operations) == len(stripped.operations)
    same(outputs_of(again, inputs), expected)
    check_constants(model, inputs)
    _check_types(model, stripped)
    if tmp_path is not None:
        path = str(tmp_path / "model.keras")
        stripped.save(path)
        loaded = keras.models.load_model(path)
        for one in (loaded, l0keras.strip(loaded)):
            same(outputs_of(one, inputs), expected)
    return stripped


def _check_types(model, stripped):
    """All that is left is Keras's, or the model's own, without gates."""
    assert not l0keras.gates_of(stripped)
    theirs = {type(layer) for layer in model._flatten_layers()}
    for operation in stripped.operations:
        own = type(operation) in theirs
        assert own or type(operation).__module__.startswith("keras.")
    for layer in stripped._flatten_layers():
        assert not type(layer).__module__.startswith("l0keras")


def reasons(model):
    """Why parts of a model are kept, by the names of its layers."""
    return {
        node.name: " ".join(node.explanations)
        for node in plan(model).nodes
        if node.explanations
    }


def barriers(model):
    """The reasons of the barriers of a model, by layer name."""
    return {
        node.name: node.reasons[0]
        for node in plan(model).nodes
        if node.rule is BARRIER
    }


def around(step, shape=(4, 5, 3), flat=True):
    """An op between a layer named "before" and one that reads all of it."""
    inputs = keras.Input(shape)
    x = keras.layers.Dense(6, name="before")(inputs)
    x = step(x)
    if flat and len(x.shape) > 2:
        x = keras.layers.Flatten()(keras.layers.Activation("sigmoid")(x))
    return keras.Model(inputs, keras.layers.Dense(2, name="all_after")(x))


def closed(model, rng, units=(1, 4), bias=0.0, tmp_path=None):
    """Closes units of "before", checks, and returns how many are left."""
    randomize(model, rng, closed=0.0)
    close(model.get_layer("before"), list(units), bias)
    return check(model, rng, tmp_path).get_layer("before").units
