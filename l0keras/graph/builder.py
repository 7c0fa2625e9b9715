import warnings

import keras
from keras.src.models.functional import Functional
from keras.src.models.functional import functional_like_constructor

from l0keras.copying import Copier
from l0keras.graph.graph import Value
from l0keras.graph.graph import weights_by_name
from l0keras.graph.trace import is_functional
from l0keras.graph.trace import trace

# What `compile` and `fit` leave on a model.
_COMPILED = {
    *("_compile_config", "_compiled_trainable_state", "_epoch_iterator"),
    # The record of `strip`, which is about that model alone.
    "_l0keras_strip",
    *("_eval_epoch_iterator", "_functional", "history", "optimizer"),
    *("stop_evaluating", "stop_predicting", "stop_training"),
}

# Methods that say how a model is made, which its graph knows.
_MAKING = {
    *("build", "call", "compute_mask", "compute_output_shape"),
    *("compute_output_spec", "from_config", "get_build_config", "get_config"),
    *("build_from_config",),
}


class Builder:
    """Builds a model anew from its graph; subclasses change it on the way.

    Layers are copies of the originals, which are only read.

    Attributes:
        graph: the `Graph`.
        copier: the `Copier` of the layers.
        tensors: the new tensor of each `Value` so far, by the value's id.
        changes_graph: whether the new model has another graph.
    """

    changes_graph = True

    def __init__(self, graph):
        self.graph = graph
        self.copier = Copier(_copy_model)
        self.tensors = {}
        self._layers = {}
        self._filled = set()
        self._names = {node.name for node in graph.nodes}
        # Operations that have the name they are to have.
        self._named = set()
        # The names of operations that the new model calls.
        self._called = set()

    # === What a subclass may change ===

    def given(self, node, position):
        """The tensor for an input of a node, `None` to leave it out."""
        return self.tensors[id(node.inputs[position])]

    def clone(self, node):
        """The new layer or op, and its weights by name.

        `None` for the weights of `node.layer`. What the layer has already it
        need not be given.
        """
        if not isinstance(node.layer, keras.Layer):
            return _copy(node.layer, node.name), None
        return self.copied(node), {}

    def copied(self, node):
        """A copy of a node's layer."""
        try:
            return self.copier.layer(node.layer, node.name)
        except Exception as error:
            raise ValueError(
                f"Layer '{node.layer.name}' ({type(node.layer).__name__}) "
                f"cannot be copied: {error}. Its attributes must be objects "
                "that Python can copy."
            ) from error

    def call(self, node, layer, args, kwargs):
        return layer(*args, **kwargs)

    def fill(self, layer, source, weights):
        """Gives a layer that was just built its weights."""
        if weights is not None:
            variables = weights_by_name(layer)
            for name, array in weights.items():
                variables[name].assign(array)
            if hasattr(layer, "finalize_state"):
                # Such as `Normalization`, which computes with copies.
                layer.finalize_state()
        elif layer._layers:
            layer.set_weights(source.get_weights())
        else:
            # Unlike `set_weights` this also brings back what some layers
            # derive from their weights, such as `Normalization`.
            store = {}
            source.save_own_variables(store)
            layer.load_own_variables(store)

    def place(self, value, tensor):
        """Takes in the new tensor of a value."""
        self.tensors[id(value)] = tensor

    def freeze(self, model):
        """Freezes the new model, as the original is as a whole."""
        model.trainable = False

    # === Shared ===

    def model(self):
        """The new functional model, not compiled."""
        source = self.graph.model
        self._name_outputs()
        inputs = keras.tree.map_structure(self._input, self.graph.inputs)
        for node in self.graph.nodes:
            if node.alive:
                self._call(node)
        names = iter(self.graph.output_names)
        outputs = keras.tree.map_structure(
            lambda value: self._output(value, next(names)), self.graph.outputs
        )
        model = keras.Model(inputs, outputs, name=source.name)
        if type(source).__module__.partition(".")[0] != "keras":
            self._adopt(model, source)
        if not source.trainable:
            self.freeze(model)
        return model

    def _adopt(self, model, source):
        """Gives a model the class of another, and what that one has set.

        A functional model of a class of its own may train in a way of its
        own, with attributes that are for that. A warning says what of it is
        lost, where that cannot be.
        """
        reason = "its `call` became a graph"
        if isinstance(source, keras.Sequential):
            reason = "copies of Sequential models are functional"
        elif is_functional(source):
            reason = self._refuses_class(type(source))
            try:
                model.__class__ = type(model) if reason else type(source)
            except TypeError as error:
                reason = str(error)
        if type(model) is not type(source):
            lost = _own_methods(type(source))
            if lost:
                more = f" and {len(lost) - 5} more" if len(lost) > 6 else ""
                lost = lost[:5] if more else lost
                warnings.warn(
                    f"Model '{source.name}' is a {type(source).__name__}, and "
                    "its copy a plain functional model, which does not have "
                    f"the {', '.join(lost)}{more} of that class: {reason}.",
                    stacklevel=2,
                )
            return
        for key, value in vars(source).items():
            if key not in vars(model) and key not in _COMPILED:
                setattr(model, key, self.copier(value))

    def _refuses_class(self, kind):
        """Why a model with a new graph cannot be of a class, or `None`."""
        if not self.changes_graph:
            return None
        if (
            kind.get_config is not Functional.get_config
            or kind.from_config.__func__ is not Functional.from_config.__func__
        ):
            return "its configuration says nothing of its graph"
        if not functional_like_constructor(kind):
            return "its constructor makes the graph"
        return None

    def _name_outputs(self):
        """Lets nodes that make outputs have the names of these.

        Of several calls of a gate only one can have its name.
        """
        names = self.graph.output_names
        values = keras.tree.flatten(self.graph.outputs)
        for value, name in zip(values, names, strict=True):
            node = value.producer
            if node is None or isinstance(self.graph.outputs, dict):
                continue
            for other in self.graph.nodes:
                if other.name == name and other.operation is not node.operation:
                    if not any(v.is_output for v in other.outputs):
                        other.operation.name = node.name
                        node.operation.name = name

    def unique(self, name):
        """A name that no layer of the new model has yet."""
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def own(self, layer):
        """Takes note of a layer that a subclass made and named."""
        self._named.add(id(layer))
        return layer

    def name(self, tensor, name):
        """Names the operations that were added to make a tensor.

        Keras counts their names up from the start of the process, which would
        clash with those of a model that was loaded.
        """
        history = tensor._keras_history
        operation = history.operation
        if id(operation) in self._named:
            self._called.add(operation.name)
            return tensor
        operation.name = self.unique(name)
        self._named.add(id(operation))
        self._called.add(operation.name)
        call = operation._inbound_nodes[history.node_index]
        for given in call.input_tensors:
            self.name(given, name)
        return tensor

    def _input(self, value):
        layer = value.tensor._keras_history.operation
        clone = self.own(type(layer).from_config(layer.get_config()))
        # By which data are given; it need not be the name of the layer.
        clone.output.name = value.tensor.name
        self._names.add(clone.name)
        self._called.add(clone.name)
        self.place(value, clone.output)
        return clone.output

    def _output(self, value, name):
        """An output under its name, by which losses may be chosen."""
        tensor = self.tensors[id(value)]
        structured = isinstance(self.graph.outputs, dict)
        if structured or tensor._keras_history.operation.name == name:
            return tensor
        if name in self._called:
            return tensor
        self._called.add(name)
        return keras.layers.Identity(name=name, dtype=tensor.dtype)(tensor)

    def _call(self, node):
        given = iter([self.given(node, i) for i in range(len(node.inputs))])
        args, kwargs = keras.tree.map_structure(
            lambda x: next(given) if isinstance(x, Value) else x,
            (node.args, node.kwargs),
        )
        if node.operation.baked:
            # A plain layer is the same in training and at test time.
            kwargs.pop("training", None)
        key = id(node.operation)
        if key not in self._layers:
            self._layers[key] = self.clone(node)
            self.own(self._layers[key][0])
        layer, weights = self._layers[key]
        outputs = self.call(node, layer, args, kwargs)
        if getattr(layer, "built", False) and id(layer) not in self._filled:
            self._filled.add(id(layer))
            self.fill(layer, node.layer, weights)
        for value, tensor in zip(
            node.outputs, keras.tree.flatten(outputs), strict=True
        ):
            if not value.sparse and getattr(tensor, "sparse", False):
                # Keras says so of any product with a number, and then cannot
                # trace some layers that read it.
                tensor._sparse = False
            self.place(value, self.name(tensor, f"{node.name}_op"))


def _own_methods(kind):
    """What classes by others than Keras say, beside how a model is made."""
    names = set()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] == "keras":
            break
        names.update(
            name
            for name, value in vars(base).items()
            if callable(value) or isinstance(value, property)
        )
    names = [name for name in names - _MAKING if name[0] != "_"]
    # Those first that are Keras's own, such as `train_step`.
    return sorted(
        names, key=lambda name: (not hasattr(keras.Model, name), name)
    )


def _copy_model(layer, copier):
    """A copy of a nested model with a graph of its own, `None` for others."""
    if not is_functional(layer) or _unbuilt(layer):
        return None
    builder = Builder(trace(layer, baked=False, opened=False))
    builder.copier = copier
    builder.changes_graph = False
    return builder.model()


def _unbuilt(layer):
    return isinstance(layer, keras.Sequential) and layer._functional is None


def _copy(operation, name):
    """A copy of an op: not every one has a configuration."""
    copy = object.__new__(type(operation))
    vars(copy).update(
        vars(operation), name=name, _inbound_nodes=[], _outbound_nodes=[]
    )
    return copy


def functional_copy(model):
    """A functional model with the variables' values and layers of another.

    Args:
        model: a built `keras.Model`, also one with a `call` of its own.
    """
    return Builder(trace(model, baked=False)).model()
