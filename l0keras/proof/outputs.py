"""Outputs of models, and how far they may differ."""

import contextlib
import random

import keras
import numpy as np
from keras.src.backend import get_keras_mask

from l0keras.graph.trace import trace

_TOLERANCE = 1e-5
# About four roundings of float32.
_ROUNDING = 5e-7
# For half precision: how far outputs may be off, and a rounding.
_HALF = {"float16": (1e-2, 1e-3), "bfloat16": (8e-2, 8e-3)}
_FACTOR = 10
_TRIES = 4
# So that outputs near 0 everywhere may differ at all.
_SMALLEST_SCALE = 1e-6


@contextlib.contextmanager
def untouched(*models):
    """A context after which models and generators are as they were before.

    Variables are safe in a `keras.StatelessScope`. Layers may also note
    things in Python, such as their losses or the attention they paid.
    """
    layers = {id(x): x for model in models for x in model._flatten_layers()}
    before = [(x, dict(vars(x))) for x in layers.values()]
    # TensorFlow wraps the dictionaries that an object has.
    values = [
        getattr(value, "__wrapped__", value)
        for _, attributes in before
        for value in attributes.values()
    ]
    contents = [
        (value, kind(value))
        for value in values
        for kind in (list, dict, set)
        if isinstance(value, kind)
    ]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for layer, attributes in before:
            now = vars(layer)
            for key in [key for key in now if key not in attributes]:
                del now[key]
            now.update(attributes)
        for container, content in contents:
            _restore(container, content)


def _restore(container, content):
    """Gives a container its former content, past what Keras tracks of it."""
    kind = type(content)
    kind.clear(container)
    (kind.extend if kind is list else kind.update)(container, content)


class Outputs(list):
    """The outputs of a model as numpy arrays.

    Attributes:
        masked: for each of them whether a mask rides on it, by which Keras
            leaves positions out of the loss.
    """

    def __init__(self, tensors):
        tensors = [x for x in keras.tree.flatten(tensors) if x is not None]
        super().__init__(map(to_array, tensors))
        self.masked = [get_keras_mask(x) is not None for x in tensors]


def run(model, inputs, scope=None):
    """The `Outputs` of a model at test time."""
    with scope or fresh_scope(model):
        return Outputs(model(inputs, training=False))


def fresh_scope(model, values=()):
    """A scope in which a model changes nothing, and remembers nothing.

    Stateful recurrent layers begin it with zeros: what they saw so far is not
    a part of what the model computes.

    Args:
        model: a `keras.Model`.
        values: pairs of a variable and what it is in this scope.
    """
    states = [
        (state, keras.ops.zeros_like(state))
        for layer in model._flatten_layers()
        if getattr(layer, "stateful", False)
        for state in keras.tree.flatten(getattr(layer, "states", None))
        if isinstance(state, keras.Variable)
    ]
    return keras.StatelessScope([*values, *states])


def to_arrays(outputs):
    return [to_array(x) for x in keras.tree.flatten(outputs) if x is not None]


def to_array(tensor):
    """A numpy array of a tensor, in float64 for all kinds of floats."""
    if "string" in str(tensor.dtype):
        return np.asarray(tensor.numpy(), object)
    array = keras.ops.convert_to_numpy(tensor)
    if "float" in str(array.dtype):
        return array.astype("float64")
    return array


def difference(expected, got):
    """By which share of the scale of one array another differs.

    Args:
        expected: a numpy array. Only its finite entries are compared.
        got: a numpy array.

    Returns:
        A float. For floats the largest absolute difference over the largest
        absolute value of `expected`, for others the share of entries that
        are not the same. Infinite for another shape, or where only `got` is
        not finite.
    """
    if expected.shape != got.shape or expected.dtype.kind != got.dtype.kind:
        return np.inf
    if expected.dtype.kind != "f":
        return float(np.mean(expected != got)) if expected.size else 0.0
    finite = np.isfinite(expected)
    expected, got = expected[finite], got[finite]
    if not np.all(np.isfinite(got)):
        return np.inf
    scale = max(np.max(np.abs(expected), initial=0.0), _SMALLEST_SCALE)
    return float(np.max(np.abs(expected - got), initial=0.0) / scale)


def precision(*models):
    """The tolerance and the rounding of the lowest precision in models."""
    dtypes = {
        layer.compute_dtype
        for model in models
        for layer in model._flatten_layers()
    }
    found = [_HALF[dtype] for dtype in dtypes if dtype in _HALF]
    return max(found, default=(_TOLERANCE, _ROUNDING))


def rounding(model, inputs, expected, eps, exact=()):
    """How far outputs may be off, because inputs and weights are rounded.

    Args:
        model: a `keras.Model`.
        inputs: its inputs.
        expected: its outputs for them.
        eps: the relative size of a rounding.
        exact: numbers that stay as they are among the inputs, as whole ones
            do: they stand for something.

    Returns:
        For each output ten times the `difference` that roundings make.
    """
    rng = np.random.default_rng(1)

    def shaken(array):
        signs = rng.choice([-1.0, 1.0], np.shape(array))
        return np.asarray(array * (1 + eps * signs), array.dtype)

    def shaken_input(array):
        if "float" not in str(array.dtype):
            return array
        keep = array == np.round(array)
        keep |= np.isin(array, np.array(exact, array.dtype))
        return np.where(keep, array, shaken(array))

    largest = np.zeros(len(expected))
    for _ in range(2):
        mapping = [
            (v, shaken(keras.ops.convert_to_numpy(v)))
            for v in model.variables
            if "float" in v.dtype
        ]
        arrays = keras.tree.map_structure(shaken_input, inputs)
        outputs = run(model, arrays, fresh_scope(model, mapping))
        moved = [difference(a, b) for a, b in zip(expected, outputs)]
        finite = [m if np.isfinite(m) else 0.0 for m in moved]
        largest = np.maximum(largest, finite)
    return _FACTOR * largest


def random_outputs(model, inputs, expected, allowed):
    """Which outputs differ from call to call, by more than is allowed.

    Seed generators go on from call to call, other states do not: stateful
    recurrent layers are not random.
    """
    seeds = {}
    differ = np.zeros(len(expected), bool)
    for _ in range(_TRIES):
        scope = fresh_scope(model)
        scope.state_mapping.update(seeds)
        outputs = run(model, inputs, scope)
        seeds = {k: v for k, v in scope.state_mapping.items() if _is_seed(v)}
        shares = [difference(a, b) for a, b in zip(expected, outputs)]
        differ |= np.array(shares) > allowed
    return differ


def _is_seed(value):
    """Whether a variable's value is the state of a seed generator.

    Not all of these, nor all other states, are known to a layer.
    """
    dtype = keras.backend.standardize_dtype(value.dtype)
    return tuple(value.shape) == (2,) and dtype in ("uint32", "int64")


def node_outputs(model, inputs):
    """The outputs of all layers and ops of a model, nested ones opened.

    Args:
        model: a built `keras.Model`.
        inputs: arrays, as nested as its inputs.

    Returns:
        A pair: the nodes of its graph, each after those that it reads, and a
        dictionary of lists of arrays by the ids of these.
    """
    graph = trace(model, baked=False)
    known = {}
    for value, array in zip(
        keras.tree.flatten(graph.inputs),
        keras.tree.flatten(inputs),
        strict=True,
    ):
        known[id(value)] = keras.ops.convert_to_tensor(
            array, dtype=value.tensor.dtype
        )
    found = {}
    with fresh_scope(model):
        for node in graph.nodes:
            args, kwargs = keras.tree.map_structure(
                lambda x: known[id(x)] if id(x) in known else x,
                (node.args, node.kwargs),
            )
            outputs = keras.tree.flatten(node.layer(*args, **kwargs))
            for value, tensor in zip(node.outputs, outputs):
                known[id(value)] = tensor
            found[id(node)] = to_arrays(outputs)
    return graph.nodes, found
