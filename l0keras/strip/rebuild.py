import keras
import numpy as np
from keras import ops

from l0keras.graph import BARRIER
from l0keras.graph import Value
from l0keras.graph import as_functional
from l0keras.graph import weights_by_name


def rebuild(graph):
    """Builds the model that a plan describes, out of Keras's own layers.

    Args:
        graph: a `Graph` from `plan`.

    Returns:
        A functional `keras.Model`, not compiled.
    """
    return _Builder(graph).model()


class _Builder:
    def __init__(self, graph):
        self.graph = graph
        self.tensors = {}
        self.layers = {}
        self.filled = set()
        self.names = {node.name for node in graph.nodes}
        # Operations that have the name they are to have.
        self.named = set()

    def model(self):
        model = self.graph.model
        inputs = keras.tree.map_structure(self._input, self.graph.inputs)
        for node in self.graph.nodes:
            if node.alive:
                self._call(node)
        names = iter(as_functional(model).output_names)
        outputs = keras.tree.map_structure(
            lambda value: self._output(value, next(names)), self.graph.outputs
        )
        result = keras.Model(inputs, outputs, name=model.name)
        if not model.trainable:
            result.trainable = False
        return result

    def _input(self, value):
        layer = value.tensor._keras_history.operation
        clone = type(layer).from_config(layer.get_config())
        self.names.add(clone.name)
        self.named.add(id(clone))
        self.tensors[id(value)] = clone.output
        return clone.output

    def _output(self, value, name):
        """An output under its name, by which losses may be chosen."""
        tensor = self.tensors[id(value)]
        structured = isinstance(self.graph.outputs, dict)
        if structured or tensor._keras_history.operation.name == name:
            return tensor
        if name in self.names:
            return tensor
        self.names.add(name)
        return keras.layers.Identity(name=name, dtype=tensor.dtype)(tensor)

    def _call(self, node):
        given = iter([self._given(node, i) for i in range(len(node.inputs))])
        args, kwargs = keras.tree.map_structure(
            lambda x: next(given) if isinstance(x, Value) else x,
            (node.args, node.kwargs),
        )
        if node.operation.baked:
            # A plain layer is the same in training and at test time.
            kwargs.pop("training", None)
        layer = self._layer(node)
        outputs = node.rule.call(node, layer, args, kwargs)
        self._fill(node)
        for value, tensor in zip(
            node.outputs, keras.tree.flatten(outputs), strict=True
        ):
            self._name(tensor, f"{node.name}_op")
            self.tensors[id(value)] = tensor

    def _given(self, node, position):
        """The tensor for an input, `None` where it is left out."""
        value = node.inputs[position]
        if not node.reads_from(position):
            return None
        if node.takes[position] is None:
            return self.tensors[id(value)]
        return self._take(node, position)

    def _take(self, node, position):
        """Selects channels out of those that the tensor still has."""
        value = node.inputs[position]
        indices = np.searchsorted(value.kept, node.takes[position]).tolist()
        tensor = ops.take(self.tensors[id(value)], indices, axis=value.axis)
        self._name(tensor, f"{node.name}_inputs")
        return tensor

    def _name(self, tensor, name):
        """Names the operations that were added to make a tensor.

        Keras counts their names up from the start of the process, which would
        clash with those of a model that was loaded.
        """
        history = tensor._keras_history
        operation = history.operation
        if id(operation) in self.named:
            return
        while name in self.names:
            name += "_"
        self.names.add(name)
        self.named.add(id(operation))
        operation.name = name
        call = operation._inbound_nodes[history.node_index]
        for given in call.input_tensors:
            self._name(given, name)

    def _layer(self, node):
        key = id(node.operation)
        if key not in self.layers:
            self.layers[key] = self._clone(node)
            self.named.add(id(self.layers[key][0]))
        return self.layers[key][0]

    def _clone(self, node):
        if not isinstance(node.layer, keras.Layer) and node.rule is BARRIER:
            # Not every op has a configuration, not even for a copy.
            clone = object.__new__(type(node.layer))
            vars(clone).update(
                vars(node.layer),
                name=node.name,
                _inbound_nodes=[],
                _outbound_nodes=[],
            )
            return clone, None
        config = {**node.layer.get_config(), "name": node.name}
        weights = None
        if node.rule is not BARRIER:
            changes, weights = node.rule.shrink(node)
            config.update(changes)
        clone = type(node.layer).from_config(config)
        return clone, weights

    def _fill(self, node):
        """Gives a layer that was just built its weights."""
        layer, weights = self.layers[id(node.operation)]
        if id(layer) in self.filled or not isinstance(layer, keras.Layer):
            return
        self.filled.add(id(layer))
        if weights is not None:
            for name, variable in weights_by_name(layer).items():
                variable.assign(weights[name])
        elif layer._layers:
            layer.set_weights(node.layer.get_weights())
        else:
            # Unlike `set_weights` this also brings back what some layers
            # derive from their weights, such as `Normalization`.
            store = {}
            node.layer.save_own_variables(store)
            layer.load_own_variables(store)
