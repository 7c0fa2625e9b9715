"""What the tests of all rules check: strip changes nothing but sizes."""

import keras
import numpy as np

import l0keras
from l0keras.strip import plan

to_numpy = keras.ops.convert_to_numpy


def randomize(layer, rng):
    """Gives all weights of a layer, or model, numbers other than zero."""
    for weight in layer.weights:
        scale = 0.5 if len(weight.shape) > 1 else 1.0
        weight.assign(scale * rng.normal(size=weight.shape))


def weights_of(layer):
    """The weights of a layer by the end of their paths, as arrays."""
    return {
        name: to_numpy(weight).copy()
        for name, weight in l0keras.graph.weights_by_name(layer).items()
    }


def assign(layer, arrays):
    for name, weight in l0keras.graph.weights_by_name(layer).items():
        weight.assign(arrays[name])


def sample(value, rng, batch=3, length=5):
    """Random data for an input of a model; open sizes become `length`."""
    shape = (batch, *(size or length for size in value.shape[1:]))
    if value.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if value.dtype == "int32":
        return rng.integers(0, 4, shape).astype("int32")
    return rng.normal(size=shape).astype("float32")


def outputs(model, inputs):
    return to_numpy(model(inputs, training=False))


def check(model, rng, folder=None, fixpoint=True):
    """Strips a model and checks all that always has to hold.

    Args:
        model: the model; its inputs of type int32 are indices below 4.
        rng: a numpy `Generator`.
        folder: where to save the result, to see that it loads; or `None`.
        fixpoint: whether stripping again must find nothing more.

    Returns:
        The stripped model.
    """
    inputs = [sample(value, rng) for value in model.inputs]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    expected = outputs(model, inputs)
    before = [to_numpy(weight) for weight in model.weights]
    stripped = l0keras.strip(model)
    _same(outputs(stripped, inputs), expected)
    assert not l0keras.gates_of(stripped)
    for layer in stripped._flatten_layers():
        assert "l0keras" not in type(layer).__module__
    again = l0keras.strip(stripped)
    assert again.count_params() <= stripped.count_params()
    if fixpoint:
        assert again.count_params() == stripped.count_params()
    _same(outputs(again, inputs), expected)
    for weight, array in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), array)
    if folder is not None:
        path = folder / "stripped.keras"
        stripped.save(path)
        _same(outputs(keras.models.load_model(path), inputs), expected)
        _same(
            outputs(l0keras.strip(keras.models.load_model(path)), inputs),
            expected,
        )
    check_constants(model, inputs)
    return stripped


def _same(found, expected):
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


def check_constants(model, inputs):
    """That what counts as constant is what the model computes."""
    graph = planned(model)
    known = [v for v in graph.values if np.any(~np.isnan(v.constants))]
    if not known:
        return
    tensors = [value.tensor for value in known]
    given = l0keras.graph.as_functional(model).input
    probe = keras.Model(given, tensors)
    arrays = keras.tree.flatten(probe(inputs, training=False))
    for value, array in zip(known, arrays, strict=True):
        array = np.moveaxis(to_numpy(array), value.axis, -1)
        array = array.reshape(-1, value.size)
        sure = ~np.isnan(value.constants)
        expected = np.broadcast_to(value.constants, array.shape)
        np.testing.assert_allclose(
            array[:, sure], expected[:, sure], rtol=1e-5, atol=1e-5
        )


def planned(model):
    """The graph with its constants, nothing else done to it."""
    graph = l0keras.graph.trace(model)
    l0keras.graph.find_rules(graph)
    l0keras.graph.load_params(graph)
    l0keras.graph.propagate_constants(graph)
    return graph


def reasons(model):
    """Why parts of a model are kept, by the names of its layers."""
    return {
        node.name: " ".join(node.explanations)
        for node in plan(model).nodes
        if node.explanations
    }
