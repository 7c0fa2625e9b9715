import keras

from l0keras.graph.graph import Value
from l0keras.graph.graph import weights_by_name


class Builder:
    """Builds a model anew from its graph; subclasses change it on the way.

    Layers are made from their configurations and get the weights of the
    originals, which are only read.

    Attributes:
        graph: the `Graph`.
        tensors: the new tensor of each `Value` so far, by the value's id.
    """

    def __init__(self, graph):
        self.graph = graph
        self.tensors = {}
        self._layers = {}
        self._names = {node.name for node in graph.nodes}

    # === What a subclass may change ===

    def given(self, node, position):
        """The tensor for an input of a node, `None` to leave it out."""
        return self.tensors[id(node.inputs[position])]

    def clone(self, node):
        """The new layer or op, and its weights by name or `None` for all."""
        config = {**node.layer.get_config(), "name": node.name}
        return type(node.layer).from_config(config), None

    def call(self, node, layer, args, kwargs):
        return layer(*args, **kwargs)

    def place(self, value, tensor):
        """Takes in the new tensor of a value."""
        self.tensors[id(value)] = tensor

    # === Shared ===

    def model(self):
        """The new functional model, not compiled."""
        source = self.graph.model
        inputs = keras.tree.map_structure(self._input, self.graph.inputs)
        for node in self.graph.nodes:
            if node.alive:
                self._call(node)
        outputs = keras.tree.map_structure(
            lambda value: self.tensors[id(value)], self.graph.outputs
        )
        model = keras.Model(inputs, outputs, name=source.name)
        if not source.trainable:
            model.trainable = False
        return model

    def unique(self, name):
        """A name that no layer of the new model has yet."""
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def named(self, name, tensor):
        """Gives the op that made a tensor a name of its own.

        Keras counts the names of ops up from the start of the process, which
        would clash with those of a model that was loaded.
        """
        tensor._keras_history.operation.name = self.unique(name)
        return tensor

    def _input(self, value):
        layer = value.tensor._keras_history.operation
        clone = type(layer).from_config(layer.get_config())
        self.place(value, clone.output)
        return clone.output

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
        layer, weights = self._layers[key]
        outputs = self.call(node, layer, args, kwargs)
        if node.operation.nodes[0] is node and isinstance(layer, keras.Layer):
            _fill(layer, node.layer, weights)
        for value, tensor in zip(
            node.outputs, keras.tree.flatten(outputs), strict=True
        ):
            self.place(value, tensor)


def _fill(layer, source, weights):
    """Gives a layer that was just built its weights."""
    if weights is not None:
        variables = weights_by_name(layer)
        for name, array in weights.items():
            variables[name].assign(array)
    elif layer._layers:
        layer.set_weights(source.get_weights())
    else:
        # Unlike `set_weights` this also brings back what some layers
        # derive from their weights, such as `Normalization`.
        store = {}
        source.save_own_variables(store)
        layer.load_own_variables(store)
