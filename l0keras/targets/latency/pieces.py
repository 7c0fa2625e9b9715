"""The pieces of a network that LiteRT computes in one go, at any width."""

import dataclasses
import itertools
import json
import warnings

import keras

from l0keras.copying import Copier
from l0keras.graph.graph import Node
from l0keras.graph.rules import BARRIER

# The arguments that say how many channels a layer makes.
_WIDTHS = {
    **dict.fromkeys(("Dense", "SimpleRNN", "LSTM", "GRU"), "units"),
    **dict.fromkeys(
        [
            f"{kind}{rank}D{more}"
            for rank in (1, 2, 3)
            for kind, more in (
                *(("Conv", ""), ("Conv", "Transpose"), ("SeparableConv", "")),
                ("ConvLSTM", ""),
            )
        ],
        "filters",
    ),
    "Embedding": "output_dim",
}
# Parts of all channels; 0 stands for a single one.
_PARTS = (0, 1 / 4, 1 / 2, 1)
# What a layer is like, but not how long it takes.
_IDLE = ("initializer", "regularizer", "constraint", "name", "seed")


@dataclasses.dataclass(frozen=True)
class Piece:
    """A layer, and those behind it that only go over what it makes.

    LiteRT folds the normalization and the activation behind a convolution
    into it, so that together they take about as long as it alone.

    Attributes:
        nodes: a list of nodes of a channel graph, each the only reader of the
            one before it.
    """

    nodes: list[Node]

    @property
    def head(self):
        return self.nodes[0]

    @property
    def argument(self):
        """The argument for the width of the output, `None` without one."""
        kind = type(self.head.layer)
        return _WIDTHS.get(kind.__name__) if _is_of_keras(kind) else None

    def widths(self):
        """The widths to measure: pairs of parts of the inputs and outputs.

        What cannot be cut, such as inputs and outputs of the model, stays
        whole, and so do layers whose widths have no argument.
        """
        head = self.head
        free = head.rule is not BARRIER and (
            self.argument is not None or not head.rule.creates(head)
        )
        inputs = free and not head.rule.takes_whole_sets(head)
        inputs = inputs and all(
            _can_shrink(head.inputs[position])
            for position in head.rule.channel_inputs(head)
        )
        last = self.nodes[-1].output
        outputs = free and self.argument and not last.is_output
        if inputs and outputs:
            pairs = itertools.product(_PARTS[1:], repeat=2)
            return [(0, 0), *pairs]
        if inputs:
            return [(part, 1) for part in _PARTS]
        return [(1, part) for part in (_PARTS if outputs else (1,))]

    def _changes(self, part):
        if part == 1:
            return {}
        return {self.argument: channels(self.head.output.size, part)}

    def _shape(self, position, part):
        value = self.head.inputs[position]
        shape = list(value.shape)
        if part != 1 and position in self.head.rule.channel_inputs(self.head):
            shape[value.axis] = channels(value.size, part)
        return shape

    def key(self, parts):
        """What tells the piece at these widths from others, as JSON.

        `None` where code of the caller's is in it, which may change, or things
        that JSON does not know.
        """
        given, made = parts
        if not all(_is_of_keras(type(node.layer)) for node in self.nodes):
            return None
        number = {id(v): f"input {i}" for i, v in enumerate(self.head.inputs)}

        def plain(x):
            return number.get(id(x), "tensor") if _is_value(x) else x

        found = [
            [self._shape(position, given), value.tensor.dtype]
            for position, value in enumerate(self.head.inputs)
        ]
        try:
            for node in self.nodes:
                config = _config(node.layer)
                if node is self.head:
                    config.update(self._changes(made))
                call = keras.tree.map_structure(plain, [node.args, node.kwargs])
                found.append([type(node.layer).__name__, _busy(config), call])
            key = json.dumps(found, sort_keys=True)
            return None if '"class_name": "function"' in key else key
        except (NotImplementedError, TypeError):
            return None

    def model(self, parts):
        """The piece at these widths, a model with weights of its own.

        Raises:
            Exception: some layer cannot have other widths than its own.
        """
        given, made = parts
        tensors = {}
        for position, value in enumerate(self.head.inputs):
            _, *shape = self._shape(position, given)
            # Names of its own, or Keras counts those of the caller's up.
            tensors[id(value)] = keras.Input(
                shape, dtype=value.tensor.dtype, name=f"input{position}"
            )
        inputs = list(tensors.values())
        for node in self.nodes:
            changes = self._changes(made) if node is self.head else {}
            layer = _copied(node, changes, parts == (1, 1))
            args, kwargs = keras.tree.map_structure(
                lambda x: tensors[id(x)] if _is_value(x) else x,
                (node.args, node.kwargs),
            )
            outputs = keras.tree.flatten(layer(*args, **kwargs))
            for value, tensor in zip(node.outputs, outputs, strict=True):
                tensors[id(value)] = tensor
        return keras.Model(inputs, outputs, name="piece")


def pieces(graph):
    """Splits a channel graph into pieces, in the order of their heads."""
    found, taken = [], set()
    for node in graph.nodes:
        if node not in taken:
            chain = [node]
            while follower := _follower(chain[-1]):
                chain.append(follower)
            taken.update(chain)
            found.append(Piece(chain))
    return found


def channels(size, part):
    """How many channels a part of some is, at least one."""
    return max(1, round(part * size))


def _follower(node):
    """The only reader of a node, if it changes no shape, else `None`."""
    value = node.output
    if len(node.outputs) > 1 or value.is_output or len(value.readers) != 1:
        return None
    reader, _ = value.readers[0]
    same = len(reader.inputs) == 1 and [v.shape for v in reader.outputs] == [
        value.shape
    ]
    if reader.rule is BARRIER or not same or reader.rule.creates(reader):
        return None
    kernels = [w for w in getattr(reader.layer, "weights", ()) if w.ndim > 1]
    return None if kernels else reader


def _can_shrink(value):
    maker = value.producer
    return maker and maker.rule is not BARRIER and value.size > 1


def _copied(node, changes, whole):
    layer = node.layer
    if not isinstance(layer, keras.Layer):
        return type(layer).from_config(
            {**layer.get_config(), "name": node.name}
        )
    if whole:
        return Copier().layer(layer)
    return Copier().changed(layer, layer.name, changes)


def _config(layer):
    with warnings.catch_warnings():
        # Nothing that is unsafe to load is going to be loaded.
        warnings.simplefilter("ignore")
        return dict(layer.get_config())


def _is_of_keras(kind):
    return kind.__module__.partition(".")[0] == "keras"


def _is_value(x):
    return hasattr(x, "tensor") and hasattr(x, "readers")


def _busy(config):
    return {k: v for k, v in config.items() if not k.endswith(_IDLE)}
