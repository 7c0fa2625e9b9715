import inspect

import keras

from l0keras.export.bridge.flat_graph import flat_graph
from l0keras.export.bridge.layers import adapt
from l0keras.export.bridge.ops import adapt_op
from l0keras.export.bridge.tfmot import import_tf_keras
from l0keras.export.bridge.translate import Refused
from l0keras.export.bridge.weights import copy_to_tf_keras
from l0keras.gates import gates_of
from l0keras.graph.graph import Value
from l0keras.graph.trace import as_functional


def to_tf_keras(model: keras.Model):
    """Makes the same model in tf_keras, which is Keras 2.

    It has the same weights, names of layers, inputs and outputs, shared
    layers, dtype policies and `trainable` flags. The layers of nested models
    become layers of the model itself, as in `strip`. Operations without a
    layer, such as `x * y`, become layers. Regularizers and constraints are
    converted. Initializers are not, because the weights are copied, and the
    arguments of `compile` are not. An argument `training` in the call of a
    layer is left out: in Keras 3 too, `fit`, `evaluate` and `predict`
    override it.

    Some activations are missing in tf_keras or differ there, such as
    `hard_silu`. In their place the model has the functions of Keras 3, which
    need the TensorFlow backend and are registered in the package "l0keras".
    To load such a model from a file, first import `l0keras.export` and convert
    any model with the same activations.

    Args:
        model: a built `Sequential` or functional Keras 3 model without gates.
            It is not changed.

    Returns:
        A functional `tf_keras.Model`, not compiled.

    Raises:
        ImportError: tf_keras is not installed.
        ValueError: `model` is not as above, or tf_keras has no equivalent for
            some of its layers. The message names all of them with the
            reasons.

    Example:

    >>> model = keras.applications.MobileNetV2(weights=None)
    >>> old = l0keras.export.to_tf_keras(model)
    >>> old.save("model.h5")
    """
    return convert(model)


def convert(model, separate=None):
    """Makes the same model in tf_keras, see `to_tf_keras`.

    Args:
        model: see `to_tf_keras`.
        separate: a function from a new layer to whether its activation
            becomes a layer behind it, or `None` for never.
    """
    as_functional(model)
    if gates_of(model):
        raise ValueError(
            "Argument `model` must have no gates, which tf_keras does not "
            "support. Call `l0keras.strip(model)` first. "
            f"Received: model '{model.name}' with {len(gates_of(model))} gates"
        )
    return _Converter(model, separate).model()


class _Converter:
    def __init__(self, model, separate):
        self.keras = import_tf_keras()
        self.source = model
        self.separate = separate
        self.tensors = {}
        self.layers = {}
        self.activations = {}
        self.makers = {}
        self.refusals = []
        self.graph = flat_graph(model, self._refuse)
        self.names = {call.name for call in self.graph.calls}
        for value in keras.tree.flatten(self.graph.inputs):
            self._check_input(value)
        for call in self.graph.calls:
            self._check(call)
        if self.refusals:
            raise ValueError(
                "Argument `model` must have an equivalent in tf_keras. "
                f"Received: model '{model.name}' with\n"
                + "\n".join(dict.fromkeys(self.refusals))
            )

    def model(self):
        for value in keras.tree.flatten(self.graph.inputs):
            self._input(value)
        for call in self.graph.calls:
            self._call(call)
        flat = [self.tensor(v) for v in keras.tree.flatten(self.graph.outputs)]
        flat = self._named(flat)
        outputs = keras.tree.pack_sequence_as(self.graph.outputs, flat)
        inputs = keras.tree.map_structure(self.tensor, self.graph.inputs)
        model = self.keras.Model(inputs, outputs, name=self.source.name)
        copy_to_tf_keras(self.graph, model)
        return model

    def tensor(self, value):
        return self.tensors[id(self.graph.resolve(value))]

    # === Checks before any work ===

    def _refuse(self, name, layer, reason):
        self.refusals.append(f"  '{name}' ({type(layer).__name__}): {reason}")

    def _check_input(self, value):
        layer = value.tensor._keras_history.operation
        if getattr(layer, "optional", False):
            self._refuse(layer.name, layer, "tf_keras has no optional inputs")
        for kind in ("sparse", "ragged"):
            if getattr(value.tensor, kind, False):
                self._refuse(layer.name, layer, f"it is {kind}")

    def _check(self, call):
        try:
            if not isinstance(call.layer, keras.Layer):
                self.makers[id(call)] = adapt_op(call.node)
                return
            if id(call.layer) not in self.makers:
                self.makers[id(call.layer)] = adapt(call.layer, to_tf_keras)
            self._check_arguments(call)
        except Refused as refusal:
            self._refuse(call.name, call.layer, refusal)

    def _check_arguments(self, call):
        theirs = getattr(self.keras.layers, type(call.layer).__name__)
        taken = {
            *inspect.signature(theirs.call).parameters,
            *inspect.signature(theirs.__call__).parameters,
        }
        for name, value in call.kwargs.items():
            if name not in taken:
                raise Refused(f"tf_keras cannot call it with `{name}`")
            _refuse_arrays(value)
        _refuse_arrays(call.args)

    # === Conversion ===

    def _input(self, value):
        layer = value.tensor._keras_history.operation
        shape = value.tensor.shape
        self.tensors[id(value)] = self.keras.Input(
            shape=shape[1:],
            batch_size=shape[0],
            name=layer.name,
            dtype=keras.backend.standardize_dtype(value.tensor.dtype),
        )

    def _call(self, call):
        args, kwargs = keras.tree.map_structure(
            lambda x: self.tensor(x) if isinstance(x, Value) else x,
            (call.args, call.kwargs),
        )
        if isinstance(call.layer, keras.Layer):
            layer = self._layer(call)
            outputs = layer(*args, **kwargs)
            if id(call.layer) in self.activations:
                outputs = self.activations[id(call.layer)](outputs)
        else:
            layer = self.makers[id(call)](call.name)
            given = [self.tensor(value) for value in call.node.inputs]
            outputs = layer(given if len(given) > 1 else given[0])
        flat = keras.tree.flatten(outputs)
        for value, tensor in zip(call.node.outputs, flat, strict=True):
            self._check_output(call, value, tensor)
            self.tensors[id(value)] = tensor

    def _layer(self, call):
        key = id(call.layer)
        if key not in self.layers:
            layer = self.makers[key](call.name)
            layer.trainable = call.layer.trainable
            if self.separate is not None and self.separate(layer):
                self.activations[key] = self.keras.layers.Activation(
                    layer.activation,
                    name=self._unique(f"{call.name}_activation"),
                    dtype=layer.dtype_policy,
                )
                layer.activation = self.keras.activations.linear
            self.layers[key] = layer
        return self.layers[key]

    def _check_output(self, call, value, tensor):
        known = zip(tensor.shape, value.shape)
        masked = getattr(tensor, "_keras_mask", None) is not None
        wanted = getattr(value.tensor, "_keras_mask", None) is not None
        if (
            len(tensor.shape) != len(value.shape)
            or any(None not in sizes and len(set(sizes)) > 1 for sizes in known)
            or masked != wanted
        ):
            raise ValueError(
                "Argument `model` must have an equivalent in tf_keras, where "
                f"'{call.name}' ({type(call.layer).__name__}) has outputs of "
                f"shape {tuple(tensor.shape)}, with a mask: {masked}. "
                f"Received: shape {value.shape}, with a mask: {wanted}"
            )

    def _named(self, tensors):
        """The outputs with their names, which losses may refer to."""
        names = as_functional(self.source).output_names
        if len(tensors) == 1 or isinstance(self.graph.outputs, dict):
            return tensors
        named = []
        for name, tensor in zip(names, tensors, strict=True):
            if tensor.node.layer.name != name and name not in self.names:
                linear = self.keras.layers.Activation(
                    "linear", name=self._unique(name), dtype=tensor.dtype
                )
                tensor = linear(tensor)
            named.append(tensor)
        return named

    def _unique(self, name):
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _refuse_arrays(value):
    for given in keras.tree.flatten(value):
        if hasattr(given, "shape") and not isinstance(given, Value):
            raise Refused("it is called with an array")
