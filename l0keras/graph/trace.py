import contextlib
import itertools
import re

import keras
from keras.src.ops.core import ConvertToTensor

from l0keras.gates import HardConcreteGate
from l0keras.graph.bake import Baker
from l0keras.graph.graph import Graph
from l0keras.graph.graph import Node
from l0keras.graph.graph import Operation
from l0keras.graph.graph import Value
from l0keras.graph.opening.calls import Call
from l0keras.graph.opening.calls import Inside
from l0keras.graph.opening.calls import calls_between
from l0keras.graph.opening.calls import training_of
from l0keras.graph.opening.closed import Closed
from l0keras.graph.opening.inputs import riding_masks
from l0keras.graph.opening.lifting import own_variables
from l0keras.graph.opening.lifting import shared_variables
from l0keras.graph.opening.masks import lost_masks
from l0keras.graph.opening.masks import reader_of_masks
from l0keras.graph.opening.masks import takes_masks_off
from l0keras.graph.opening.masks import tensors_to_open
from l0keras.graph.opening.may_open import does_nothing
from l0keras.graph.opening.may_open import is_functional
from l0keras.graph.opening.may_open import may_open
from l0keras.graph.opening.open_layer import open_call
from l0keras.graph.opening.open_layer import open_model


def trace(model, baked=True, opened=True, stand_ins=None):
    """Reads the graph of a model.

    Args:
        model: a built `keras.Model`, with or without
            gates.
        baked: whether gated layers are baked to plain ones and gates of
            their own to scalings. Otherwise the graph has the layers of the
            model itself.
        opened: whether what is inside of nested models and of layers made of
            others becomes part of the graph, where that is exact.
        stand_ins: in the place of a `Baker`, another object with its methods
            `source` and `arguments`. Nodes know what they stand for then, as
            `operation.owner` and `node.call`.

    Returns:
        A `Graph` without facts about channels.

    Raises:
        ValueError: `model` is no Keras model, not built, or has a `call` that
            cannot be opened.
    """
    if isinstance(model, keras.Model) and not is_functional(model):
        inputs, outputs, inside = _opened(model)
        names, output_names = (), None
    else:
        functional = as_functional(model)
        inputs, outputs = functional.input, functional.output
        inside = None
        names = [layer.name for layer in functional.operations]
        output_names = functional.output_names
    if baked or stand_ins:
        baker = stand_ins or Baker()
        tracer = _Tracer(names, baker.source, baker.arguments, opened)
    else:
        tracer = _Tracer(names, *_as_it_is, opened)
    tracer.owned = stand_ins is not None
    tracer.shared = shared_variables(model)
    values = keras.tree.map_structure(Value, inputs)
    inside = inside or tracer.inside(inputs, outputs)
    tracer.enter(inside, keras.tree.flatten(values))
    results = keras.tree.map_structure(tracer.value, outputs)
    graph = Graph(model, values, results, tracer.nodes, output_names)
    for value in keras.tree.flatten(results):
        value.is_output = True
    return graph


def _opened(model):
    """What is in a subclassed model, or a `ValueError`."""
    try:
        return open_model(model)
    except Closed as reason:
        raise ValueError(
            "Argument `model` must be Sequential or functional, or have a "
            "`call` that Keras can trace. Build it with the functional API, "
            "or pass the functional part of it. "
            f"Received: model '{model.name}' of type {type(model).__name__}, "
            f"whose `call` cannot be opened: {reason}"
        ) from reason


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
            "model with a `call` of its own has no graph to read. "
            "`l0keras.strip(model)` makes a functional one of it, where that "
            "is exact. "
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


def _fits(shape, wanted):
    """Whether a tensor of a shape may be given where another is wanted."""
    return len(shape) == len(wanted) and all(
        size in (None, own) for own, size in zip(shape, wanted)
    )


def _same_shapes(tensors, others):
    return all(a.shape == b.shape for a, b in zip(tensors, others))


# The sources and arguments of a graph that is not baked.
_as_it_is = (lambda call: call.operation), (lambda call: call.arguments)


def _passes(call, source):
    """Whether a call does nothing but hand on its input."""
    if type(source) is ConvertToTensor:
        # Nested models begin with one.
        return call.input_tensors[0].dtype == call.outputs[0].dtype
    return does_nothing(call)


class _Tracer:
    def __init__(self, names, source_of, arguments_of, opened):
        self.source_of = source_of
        self.arguments_of = arguments_of
        self.opened = opened
        self.nodes = []
        self.values = {}
        self.operations = {}
        self.taken = set()
        # Whether operations remember the layers that they stand for.
        self.owned = False
        # The ids of variables that belong to several layers.
        self.shared = set()
        # Why layers could not be opened.
        self.closed = {}
        # The outermost layers keep their names, inner ones make way.
        self.names = set(names)

    def value(self, tensor):
        return self.values[id(tensor)]

    def inside(self, inputs, outputs):
        """What is between the inputs and outputs of a functional model."""
        given, outputs = map(keras.tree.flatten, (inputs, outputs))
        try:
            calls = calls_between(given, outputs, self._to_open)
        except Closed:
            # A mask was made before the inputs of the model.
            calls = calls_between(given, outputs, self._given)
        return Inside(given, outputs, calls)

    def _given(self, call):
        return self.arguments_of(call).keras_tensors

    def _to_open(self, call):
        given = self._given(call)
        return tensors_to_open(call, given) if self.opened else given

    def enter(self, inside, inputs, prefix=""):
        """Adds the nodes of a model or layer, called on values."""
        for tensor, value in zip(inside.inputs, inputs, strict=True):
            self.values[id(tensor)] = value
        for call in inside.calls:
            source = self.source_of(call)
            if _passes(call, source):
                given = self.value(call.input_tensors[0])
                self.values[id(call.outputs[0])] = given
                continue
            inner = self._opened(call, source, inside)
            if inner is None:
                self._add(call, source, prefix)
                continue
            outer = prefix
            if source is call.operation:
                outer = prefix + call.operation.name + "_"
            tensors = self._given(call)
            if len(inner.inputs) > len(tensors):
                tensors = [*tensors, *riding_masks(call)]
            self.enter(inner, list(map(self.value, tensors)), outer)
            for tensor, result in zip(call.outputs, inner.outputs, strict=True):
                value = self.values[id(tensor)] = self.value(result)
                if value.shape.count(None) > tuple(tensor.shape).count(None):
                    # Outside sizes are known that are not inside.
                    value.tensor = tensor

    def _opened(self, call, source, around):
        """The inside of a layer that can be opened, else `None`.

        Args:
            call: where the layer is called.
            source: the layer.
            around: the `Inside` that the call is in.
        """
        if not self.opened:
            return None
        inner = self._nested(call, source)
        inside = inner and self.inside(inner.input, inner.output)
        if source is not call.operation or not may_open(source):
            return inside
        if inside and _same_shapes(inside.inputs, call.input_tensors):
            return inside
        if any(id(v) in self.shared for v in own_variables(source)):
            self.closed[id(source)] = "has a variable of another layer, too"
            return inside
        try:
            if any(id(mask) not in self.values for mask in riding_masks(call)):
                raise Closed("its input carries a mask from outside")
            # Where more is known of sizes here than there, it is used.
            found = open_call(call)
            lost = lost_masks(call, found)
            reader = lost and reader_of_masks(lost, around, open_call)
            if not reader:
                return found
            if not takes_masks_off(source):
                with contextlib.suppress(Closed):
                    found = open_call(call, hands_on=True)
                    if not lost_masks(call, found):
                        return found
            raise Closed(
                f"hands on a mask that {reader} goes by, and the ops inside "
                "would end it"
            )
        except Closed as reason:
            self.closed[id(source)] = str(reason)
            return inside

    def _nested(self, call, layer):
        """The functional model that a call enters, if it can be opened."""
        if not is_functional(layer):
            return None
        arguments = self.arguments_of(call)
        given = {**arguments.kwargs, "training": training_of(call)}
        if layer is not call.operation and not given["training"]:
            # A plain layer is the same in training and at test time.
            given.pop("training")
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
        node.call = call
        for value in outputs:
            self.values[id(value.tensor)] = value
        self.nodes.append(node)

    def _operation(self, call, source, prefix):
        name = source.name
        if isinstance(call, Call) and call.made:
            # Keras counts up the names of what was traced just now.
            name = re.sub(r"_\d+$", "", name)
        if name in self.taken or (prefix and name in self.names):
            base = name = prefix + name
            numbers = itertools.count(1)
            while name in self.names:
                name = f"{base}_{next(numbers)}"
        self.names.add(name)
        self.taken.add(name)
        baked = source is not call.operation
        gate = isinstance(call.operation, HardConcreteGate)
        operation = Operation(source, name, gate=gate and baked, baked=baked)
        if self.owned:
            operation.owner = call.operation
        operation.closed = self.closed.get(id(source))
        return operation
