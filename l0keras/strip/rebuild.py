import keras
import numpy as np
from keras import ops

from l0keras.graph import BARRIER
from l0keras.graph import Value
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
        self.names = {node.name for node in graph.nodes}

    def model(self):
        model = self.graph.model
        inputs = keras.tree.map_structure(self._input, self.graph.inputs)
        for node in self.graph.nodes:
            if node.alive:
                self._call(node)
        outputs = keras.tree.map_structure(
            lambda value: self.tensors[id(value)], self.graph.outputs
        )
        result = keras.Model(inputs, outputs, name=model.name)
        if not model.trainable:
            result.trainable = False
        return result

    def _input(self, value):
        layer = value.tensor._keras_history.operation
        clone = type(layer).from_config(layer.get_config())
        self.tensors[id(value)] = clone.output
        return clone.output

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
        name = f"{node.name}_inputs"
        while name in self.names:
            name += "_"
        self.names.add(name)
        # Keras counts such names up from the start of the process, which
        # would clash with those of a model that was loaded.
        tensor._keras_history.operation.name = name
        return tensor

    def _layer(self, node):
        key = id(node.operation)
        if key not in self.layers:
            self.layers[key] = self._clone(node)
        return self.layers[key][0]

    def _clone(self, node):
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
        if node.operation.nodes[0] is not node:
            return
        if not isinstance(layer, keras.Layer):
            return
        if weights is not None:
            for name, variable in weights_by_name(layer).items():
                variable.assign(weights[name])
            if hasattr(layer, "finalize_state"):
                # Such as `Normalization`, which computes with copies.
                layer.finalize_state()
        elif layer._layers:
            layer.set_weights(node.layer.get_weights())
        else:
            # Unlike `set_weights` this also brings back what some layers
            # derive from their weights, such as `Normalization`.
            store = {}
            node.layer.save_own_variables(store)
            layer.load_own_variables(store)
