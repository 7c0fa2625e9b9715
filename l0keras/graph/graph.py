import os
import re

import keras
import numpy as np


class Value:
    """One tensor of a channel graph: its channels and what is known of them.

    Attributes:
        tensor: the `KerasTensor` of the model that was traced.
        axis: the axis along which this tensor has channels, an integer.
        producer: the `Node` that makes it, `None` for an input of the model.
        readers: a list of `(node, position among the node's inputs)`.
        is_output: whether the model hands it out.
        sparse: whether it may be a sparse tensor.
        masked: whether it may carry a mask that Keras does not know of.
        constants: float64, shape `(size,)`: the value that a channel has at
            every position for whatever input, NaN where there is none.
        live: bool, shape `(size,)`: whether anybody reads the channel.
        needed: bool, shape `(size,)`: whether it has to be right; others only
            have to be there.
        gone: bool, shape `(size,)`: whether what made it was dropped.
        kept: integers, ascending: the channels that the stripped model has.
        spare: bool, shape `(size,)`: the channels whose values nobody needs,
            if they are kept.
    """

    def __init__(self, tensor, producer=None):
        self.tensor = tensor
        self.producer = producer
        self.readers = []
        self.is_output = False
        self.sparse = bool(getattr(tensor, "sparse", False))
        self.masked = False
        self.axis = None
        self.constants = None
        self.live = None
        self.needed = None
        self.gone = None
        self.kept = None
        self.spare = None

    @property
    def shape(self):
        return tuple(self.tensor.shape)

    @property
    def rank(self):
        return len(self.shape)

    @property
    def size(self):
        """The number of channels, 0 where the model does not fix it."""
        return (self.shape[self.axis] or 0) if 0 < self.axis else 0

    @property
    def selectable(self):
        """Whether an index selection may follow; it would drop a mask."""
        return not (
            getattr(self.tensor, "_keras_mask", None) is not None
            or self.masked
            or self.sparse
            or getattr(self.tensor, "ragged", False)
        )


class Operation:
    """A layer or op of the model with host copies of its weights.

    Several nodes may refer to one operation: a shared layer.

    Attributes:
        source: the Keras layer or op; gates are baked. It is only read.
        name: the name in the stripped model.
        params: numpy arrays by variable name, what a rule may change.
        nodes: the nodes that call it.
        gate: whether it stands for a gate of its own in the model.
        baked: whether `source` replaces a gated layer or a gate.
        paired: the operation of those calls of the same layer that use its
            weights the other way round, or `None`.
        closed: why a layer made of others could not be opened, or `None`.
        owner: the layer whose weights are meant: `source`, or in a graph with
            stand-ins what `source` stands for.
    """

    def __init__(self, source, name, gate=False, baked=False):
        self.source = source
        self.owner = source
        self.name = name
        self.closed = None
        self.paired = None
        self.gate = gate
        self.baked = baked
        self.params = {}
        self.nodes = []

    def load_params(self):
        for name, variable in weights_by_name(self.source).items():
            # Not a copy, other than `convert_to_numpy`: weights are large. On
            # TensorFlow, `stop_gradient` reads the value of a variable.
            array = np.asarray(keras.ops.stop_gradient(variable.value))
            if array.dtype != "float64":
                array = array.astype("float32", copy=False)
            # Rules replace weights, they never change them.
            array = array.view()
            array.flags.writeable = False
            self.params[name] = array

    @property
    def shared(self):
        """Whether several calls have to agree on the same weights."""
        return len(self.nodes) > 1 and not self.nodes[0].rule.per_call


def weights_by_name(layer):
    """The weights of a layer by the part of their path that tells them apart.

    Such as "kernel", or "query/kernel" in a layer made of several.
    """
    weights = getattr(layer, "weights", [])
    folders = [weight.path.split("/")[:-1] for weight in weights]
    shared = os.path.commonprefix(folders)
    named = {}
    for weight in weights:
        name = "/".join(weight.path.split("/")[len(shared) :])
        # Keras counts those without a name up from the start of the process,
        # so that they are called otherwise in each copy of a layer.
        name = re.sub(r"\bvariable_\d+$", "variable", name)
        while name in named:
            name += "_"
        named[name] = weight
    return named


class Node:
    """One call of an operation.

    Attributes:
        operation: the `Operation`.
        args, kwargs: what the model's call was given, with a `Value` in the
            place of each tensor.
        inputs, outputs: lists of `Value`.
        rule: what is known about the operation, see `rules`.
        alive: whether anybody needs it at all.
        made: bool mask of the output's channels that the layer has to make.
        spare: bool mask of those of them whose values nobody needs.
        needs: bool mask of those that have to stay right. Some are spare, but
            part of the width that was asked for.
        reads: for each input a bool mask of the channels it needs.
        takes: for each input the channels to select in front of the node,
            as integers, or `None` to read what there is.
        reasons: what is not known of it, a list of strings.
        notes: what it could not do without, a list of strings.
        call: the node of the Keras model, `None` for what replaces one.
    """

    def __init__(self, operation, args, kwargs, inputs, outputs):
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.inputs = inputs
        self.outputs = outputs
        self.rule = None
        self.alive = True
        self.made = None
        self.spare = None
        self.needs = None
        self.reads = None
        self.takes = [None] * len(inputs)
        self.reasons = []
        self.notes = []
        self.call = None
        operation.nodes.append(self)
        for position, value in enumerate(inputs):
            value.readers.append((self, position))
        for value in outputs:
            value.producer = self

    @property
    def explanations(self):
        """Why something here was kept."""
        return [*self.reasons, *self.notes]

    @property
    def name(self):
        return self.operation.name

    @property
    def training(self):
        """Whether the model calls the layer in training mode at test time."""
        return self.kwargs.get("training")

    @property
    def arguments_beyond_input(self):
        """Whether the call says more than what its first argument is."""
        given = {
            name
            for name, value in self.kwargs.items()
            # Keras records these with their defaults.
            if value is not None and name != "training"
        }
        return len(self.args) != 1 or bool(given)

    @property
    def layer(self):
        return self.operation.source

    @property
    def params(self):
        return self.operation.params

    @property
    def input(self):
        return self.inputs[0]

    @property
    def output(self):
        return self.outputs[0]

    def constants(self, position=0):
        """The constants of an input, as far as all calls agree on them."""
        constants = self.inputs[position].constants
        if self.operation.shared:
            for node in self.operation.nodes:
                same = node.inputs[position].constants == constants
                constants = np.where(same, constants, np.nan)
        return constants

    def got(self, position=0):
        """The channels of an input that this node is given in the end."""
        if not self.reads_from(position):
            return np.zeros(0, int)
        if self.takes[position] is not None:
            return self.takes[position]
        return self.inputs[position].kept

    def reads_from(self, position):
        """Whether the node, if alive, needs an input at all."""
        if not self.rule.optional_inputs:
            return True
        return bool(np.any(self.reads[position]))


class Graph:
    """The channel graph of one model, in topological order.

    Attributes:
        model: the traced model. It is only read.
        inputs, outputs: the model's inputs and outputs, as nested as there,
            with a `Value` in the place of each tensor.
        nodes: a list of `Node`, each after those that it reads from.
        output_names: what losses and metrics call the outputs, in order.
    """

    def __init__(self, model, inputs, outputs, nodes, output_names=None):
        self.model = model
        self.inputs = inputs
        self.outputs = outputs
        self.nodes = nodes
        self.output_names = output_names or [
            value.producer.name if value.producer else value.tensor.name
            for value in keras.tree.flatten(outputs)
        ]

    @property
    def values(self):
        found = list(keras.tree.flatten(self.inputs))
        for node in self.nodes:
            found.extend(node.outputs)
        return found

    def __str__(self):
        lines = []
        for value in self.values:
            producer = value.producer
            name = producer.name if producer else value.tensor.name
            kind = type(producer.layer).__name__ if producer else "Input"
            readers = [f"'{node.name}'" for node, _ in value.readers]
            if value.is_output:
                readers.append("the outputs")
            lines.append(
                f"'{name}' ({kind}): {value.size or 'unknown'} channels, "
                f"read by {', '.join(readers) or 'nobody'}"
            )
            if producer:
                lines.extend(f"  {reason}" for reason in producer.reasons)
        return "\n".join(lines)

    def remove(self, node):
        """Takes out a node that does nothing; its readers read its input."""
        source, output = node.input, node.output
        source.readers.remove((node, 0))
        for reader, position in output.readers:
            reader.inputs[position] = source
            reader.args, reader.kwargs = keras.tree.map_structure(
                lambda x: source if x is output else x,
                (reader.args, reader.kwargs),
            )
            source.readers.append((reader, position))
        source.is_output = source.is_output or output.is_output
        self.outputs = keras.tree.map_structure(
            lambda value: source if value is output else value, self.outputs
        )
        node.operation.nodes.remove(node)
        self.nodes.remove(node)

    def drop(self, nodes):
        """Takes out nodes whose outputs nobody reads but each other."""
        for node in nodes:
            for position, value in enumerate(node.inputs):
                value.readers.remove((node, position))
            for value in node.outputs:
                value.gone = np.ones(value.size, bool)
            node.operation.nodes.remove(node)
            self.nodes.remove(node)

    def drop_unread(self):
        """Takes out nodes from which no way leads to an output."""
        for node in reversed(list(self.nodes)):
            if not any(v.readers or v.is_output for v in node.outputs):
                self.drop([node])

    def replace(self, node, operation, position):
        """Puts a call of another operation on one input in a node's place."""
        for other, value in enumerate(node.inputs):
            value.readers.remove((node, other))
        node.operation.nodes.remove(node)
        value = node.inputs[position]
        new = Node(operation, (value,), {}, [value], node.outputs)
        self.nodes[self.nodes.index(node)] = new
        return new


def unknown(size):
    """No constants known for `size` channels."""
    return np.full(size, np.nan)
