import keras
from keras.src.models.functional import Functional

from l0keras.gates import HardConcreteGate
from l0keras.graph.bake import Baker
from l0keras.graph.graph import Graph
from l0keras.graph.graph import Node
from l0keras.graph.graph import Operation
from l0keras.graph.graph import Value


def trace(model, baked=True):
    """Reads the graph of a model; nested models become part of it.

    Args:
        model: a built `Sequential` or functional model, with or without
            gates.
        baked: whether gated layers are baked to plain ones and gates of
            their own to scalings. Otherwise the graph has the layers of the
            model itself.

    Returns:
        A `Graph` without facts about channels.

    Raises:
        ValueError: `model` is not a Keras model, is subclassed or not built.
    """
    functional = as_functional(model)
    inputs = keras.tree.map_structure(Value, functional.input)
    if baked:
        baker = Baker()
        tracer = _Tracer(functional, baker.source, baker.arguments)
    else:
        tracer = _Tracer(
            functional, lambda call: call.operation, lambda call: call.arguments
        )
    tracer.enter(functional, keras.tree.flatten(inputs))
    outputs = keras.tree.map_structure(tracer.value, functional.output)
    graph = Graph(model, inputs, outputs, tracer.nodes)
    for value in keras.tree.flatten(outputs):
        value.is_output = True
    return graph


def as_functional(model):
    """The functional model behind a model, or a `ValueError`."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Argument `model` must be a Keras model. "
            f"Received: model={model!r} of type {type(model).__name__}"
        )
    if not is_functional(model):
        raise ValueError(
            "Argument `model` must be Sequential or functional, because a "
            "model with a `call` of its own has no graph to read. Build it "
            "with the functional API, or pass the functional part of it. "
            f"Received: model '{model.name}' of type {type(model).__name__}"
        )
    if isinstance(model, keras.Sequential):
        if model._functional is None:
            raise ValueError(
                "Argument `model` must be built. Start it with a "
                "`keras.Input`, or call `model.build(input_shape)`. "
                f"Received: Sequential model '{model.name}', not built"
            )
        return model._functional
    return model


def is_functional(model):
    return isinstance(model, (Functional, keras.Sequential)) and type(
        model
    ).call in (Functional.call, keras.Sequential.call)


def _fits(shape, wanted):
    """Whether a tensor of a shape may be given where another is wanted."""
    return len(shape) == len(wanted) and all(
        size in (None, own) for own, size in zip(shape, wanted)
    )


class _Tracer:
    def __init__(self, functional, source_of, arguments_of):
        self.source_of = source_of
        self.arguments_of = arguments_of
        self.nodes = []
        self.values = {}
        self.operations = {}
        self.taken = set()
        # The outermost layers keep their names, inner ones make way.
        self.names = {layer.name for layer in functional.operations}

    def value(self, tensor):
        return self.values[id(tensor)]

    def enter(self, functional, inputs, prefix=""):
        """Adds the nodes between the inputs and outputs of a model."""
        for tensor, value in zip(
            keras.tree.flatten(functional.input), inputs, strict=True
        ):
            self.values[id(tensor)] = value
        for call in self._calls(functional):
            source = self.source_of(call)
            inner = self._nested(call, source)
            if inner is None:
                self._add(call, source, prefix)
                continue
            outer = prefix
            if source is call.operation:
                outer = prefix + call.operation.name + "_"
            tensors = self.arguments_of(call).keras_tensors
            self.enter(inner, list(map(self.value, tensors)), outer)
            for tensor, result in zip(
                call.outputs, keras.tree.flatten(inner.output), strict=True
            ):
                value = self.values[id(tensor)] = self.value(result)
                if value.producer is not None:
                    # Outside sizes may be known that are not inside.
                    value.tensor = tensor

    def _calls(self, functional):
        """The calls of a model, each after those that it depends on."""
        done = {id(tensor) for tensor in keras.tree.flatten(functional.input)}
        order = []
        stack = [
            (tensor, False)
            for tensor in reversed(keras.tree.flatten(functional.output))
        ]
        while stack:
            tensor, ready = stack.pop()
            if id(tensor) in done:
                continue
            history = tensor._keras_history
            call = history.operation._inbound_nodes[history.node_index]
            if ready:
                order.append(call)
                done.update(id(output) for output in call.outputs)
                continue
            stack.append((tensor, True))
            inputs = self.arguments_of(call).keras_tensors
            stack.extend((t, False) for t in reversed(inputs))
        return order

    def _nested(self, call, layer):
        """The functional model that a call enters, if it can be opened."""
        if not is_functional(layer):
            return None
        arguments = self.arguments_of(call)
        given = dict(arguments.kwargs)
        if layer is not call.operation and not given.get("training"):
            # A plain layer is the same in training and at test time.
            given.pop("training", None)
        if any(v is not None for v in given.values()):
            return None
        inner = layer
        if isinstance(layer, keras.Sequential):
            inner = layer._functional
        if inner is None or len(arguments.args) != 1:
            return None
        given = arguments.keras_tensors
        wanted = keras.tree.flatten(inner.input)
        if len(given) != len(wanted):
            return None
        if not all(_fits(a.shape, b.shape) for a, b in zip(given, wanted)):
            return None
        return inner

    def _add(self, call, source, prefix):
        key = id(source)
        if key not in self.operations:
            self.operations[key] = self._operation(call, source, prefix)
        outputs = [Value(tensor) for tensor in call.outputs]

        def value(x):
            return self.value(x) if isinstance(x, keras.KerasTensor) else x

        arguments = self.arguments_of(call)
        args, kwargs = arguments.convert(value)
        inputs = [self.value(tensor) for tensor in arguments.keras_tensors]
        node = Node(self.operations[key], args, kwargs, inputs, outputs)
        for value in outputs:
            self.values[id(value.tensor)] = value
        self.nodes.append(node)

    def _operation(self, call, source, prefix):
        name = source.name
        if name in self.taken or (prefix and name in self.names):
            name = prefix + name
            while name in self.names:
                name += "_"
        self.names.add(name)
        self.taken.add(name)
        baked = source is not call.operation
        gate = isinstance(call.operation, HardConcreteGate)
        return Operation(source, name, gate=gate and baked, baked=baked)
