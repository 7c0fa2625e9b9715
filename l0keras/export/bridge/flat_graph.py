"""The calls of layers in a model and in all models nested in it."""

import inspect

import keras

from l0keras.graph.graph import Value
from l0keras.graph.trace import as_functional
from l0keras.graph.trace import is_functional
from l0keras.graph.trace import trace


class Call:
    """One call of a layer or operation, in a model or in a nested model.

    Attributes:
        name: the name of the layer, unique in the whole graph.
        layer: the Keras layer or operation.
        args, kwargs: the arguments, with a `Value` in the place of each
            tensor. Default values are left out; so are masks that belong to
            the tensors, and `training`, which Keras 3 overrides in `fit`,
            `evaluate` and `predict`.
        node: the `Node` of the call.
    """

    def __init__(self, name, node):
        self.name = name
        self.node = node
        self.layer = node.layer
        self.args = node.args
        self.kwargs = {
            key: value
            for key, value in node.kwargs.items()
            if not (key == "training" or self._default(key, value))
            and not (key.endswith("mask") and self._implicit(value))
        }

    def _default(self, key, value):
        if value is None:
            return True
        if not isinstance(self.layer, keras.Layer):
            return False
        parameters = inspect.signature(self.layer.call).parameters
        return key in parameters and value is parameters[key].default

    def _implicit(self, mask):
        """Whether a mask belongs to the tensors among the arguments."""
        own = [getattr(v.tensor, "_keras_mask", None) for v in self.values]
        own = {id(m) for m in own if m is not None}
        given = [m for m in keras.tree.flatten(mask) if m is not None]
        return all(isinstance(m, Value) and id(m.tensor) in own for m in given)

    @property
    def values(self):
        """The `Value`s among the positional arguments."""
        return [
            x for x in keras.tree.flatten(self.args) if isinstance(x, Value)
        ]

    @property
    def reads(self):
        """The `Value`s among all arguments."""
        given = keras.tree.flatten((self.args, self.kwargs))
        return [x for x in given if isinstance(x, Value)]


class FlatGraph:
    """The calls of a model and its nested models, in topological order.

    Attributes:
        inputs, outputs: `Value`s, in the structure of the model's inputs and
            outputs.
        calls: a list of `Call`.
    """

    def __init__(self, inputs, outputs):
        self.inputs = inputs
        self.outputs = outputs
        self.calls = []
        self._same = {}

    def resolve(self, value):
        """The value outside of nested models that equals a value."""
        while id(value) in self._same:
            value = self._same[id(value)]
        return value

    def join(self, value, same):
        """Notes that `value` equals `same`."""
        self._same[id(value)] = same

    def drop_unread(self):
        """Removes calls whose outputs are read by implicit masks only."""
        needed = {id(self.resolve(v)) for v in keras.tree.flatten(self.outputs)}
        kept = []
        for call in reversed(self.calls):
            if any(id(value) in needed for value in call.node.outputs):
                needed.update(id(self.resolve(v)) for v in call.reads)
                kept.append(call)
        self.calls = kept[::-1]


def flat_graph(model, refuse):
    """Reads the calls of a model and of the models nested in it.

    Unlike `trace` it also opens nested models that are called with `training`
    or on shapes other than their own.

    Args:
        model: a built `Sequential` or functional model.
        refuse: a function of a name, a layer and a reason, called for each
            nested model that cannot be opened.

    Returns:
        A `FlatGraph`.
    """
    return _Flattener(model, refuse).graph


class _Flattener:
    def __init__(self, model, refuse):
        self.refuse = refuse
        # Keeps all graphs alive, so ids of their values stay unique.
        self.traced = []
        self.names = {}
        traced = self._trace(model)
        self.graph = FlatGraph(traced.inputs, traced.outputs)
        # Layers of the model keep their names; nested ones may get a new one.
        self.taken = {
            value.tensor._keras_history.operation.name
            for value in keras.tree.flatten(traced.inputs)
        }
        for node in traced.nodes:
            if not is_functional(node.layer):
                self._name(node, "")
        self._enter(traced.nodes, "")
        self.graph.drop_unread()

    def _trace(self, model):
        graph = trace(model, baked=False)
        self.traced.append(graph)
        return graph

    def _enter(self, nodes, prefix):
        for node in nodes:
            if not is_functional(node.layer):
                name = self._name(node, prefix)
                self.graph.calls.append(Call(name, node))
                continue
            given = Call(node.name, node).kwargs
            if any(k.endswith("mask") and v for k, v in node.kwargs.items()):
                given = node.kwargs
            try:
                as_functional(node.layer)
            except ValueError as error:
                self.refuse(node.name, node.layer, str(error))
                continue
            inner = self._trace(node.layer)
            inputs = keras.tree.flatten(inner.inputs)
            if given or len(inputs) != len(node.inputs):
                self.refuse(
                    node.name, node.layer, "its call must have tensors only"
                )
                continue
            for value, outer in zip(inputs, node.inputs, strict=True):
                self.graph.join(value, outer)
            self._enter(inner.nodes, f"{prefix}{node.name}_")
            for outer, value in zip(
                node.outputs, keras.tree.flatten(inner.outputs), strict=True
            ):
                self.graph.join(outer, value)

    def _name(self, node, prefix):
        key = id(node.layer)
        if key not in self.names:
            name = node.name
            if name in self.taken:
                name = prefix + name
            while name in self.taken:
                name += "_"
            self.taken.add(name)
            self.names[key] = name
        return self.names[key]
