import itertools

import keras
import numpy as np
from scipy import sparse

from l0keras.graph.analyze import channel_graph
from l0keras.graph.costs import ARRAYS
from l0keras.graph.graph import weights_by_name
from l0keras.graph.rules import BARRIER


class Group:
    """Channels of a model that are made, passed on and read together.

    Channel k of a group stands for one channel of each of the tensors that
    the group runs through: they can only be cut all at once, such as the same
    channel of all branches that a residual connection adds up. Printing the
    group shows the chain that ties them.

    Attributes:
        name: the name of the first layer that makes channels of the group.
        size: the number of channels.
        weights: integers, shape `(size,)`: how many weights of the model
            vanish with each channel while all others stay.
        makers: the names of the layers that make the channels.
        readers: the names of the layers that read them and make something
            else of them, such as layers with weights and sums over channels.
        passes: pairs of a layer's name and the names of those before it, for
            all that the channels run through in between.
        fixed: why the channels cannot be cut: a list of strings, empty for a
            group that can.
        labels: the group's classes of tied channels, ascending integers.
        parts: pairs of a variable of the model and an integer array that
            broadcasts to it: the channel, as a position in the group, that
            each weight makes, scales or shifts, -1 for none. With all of
            them at 0 the channel is the same number for any input, so that
            `strip` can cut it: a zero-invariant group.
    """

    def __init__(self, labels, weights, fixed):
        self.labels = labels
        self.weights = weights
        self.fixed = fixed
        self.makers = []
        self.readers = []
        self.passes = []
        self.parts = []

    @property
    def name(self):
        return self.makers[0]

    @property
    def size(self):
        return len(self.labels)

    def __str__(self):
        lines = [
            f"{self.size} channels of {_names(self.makers)}, "
            f"{_range(self.weights)} weights each"
        ]
        for name, before in self.passes:
            lines.append(f"  {_names(before)} -> '{name}'")
        if self.readers:
            lines.append(f"  read by {_names(self.readers)}")
        lines.extend(f"  fixed: {reason}" for reason in self.fixed)
        return "\n".join(lines)

    __repr__ = __str__


def channel_groups(model: keras.Model) -> list[Group]:
    """Finds the channels of a model that can only be cut together.

    Args:
        model: a built `keras.Model`. It is only
            read; nested models count as part of it.

    Returns:
        A list of `Group`, in the order of the layers that make them. Groups
        that have to stay, because they end in an output of the model or in a
        layer that is not known, say why in `fixed`. Where only some of the
        channels that come together have to, these are a group of their own.

    Raises:
        ValueError: `model` is no Keras model, not built, or has a `call` that
            cannot be opened.

    Example:

    >>> print(l0keras.channel_groups(keras.applications.ResNet50())[1])
    """
    ties = Ties(model)
    ties.find_parts()
    return ties.groups


class Ties:
    """The channels of all tensors that can only be cut together.

    Attributes:
        graph: the `Graph` of the model, with rules.
        groups: a list of `Group`.
    """

    def __init__(self, model):
        self.graph = channel_graph(model)
        load_shapes(self.graph)
        self._number()
        self._tie()
        self._pin()
        self.groups = self._group()
        self._describe()

    def labels(self, value):
        """The class of tied channels of each channel of a value."""
        start = self._starts[id(value)]
        return self._labels[start : start + value.size]

    def gated_readers(self, value):
        """The readers of a value in front of which its gates stand."""
        return [(n, p) for n, p in value.readers if n.rule.reads_gated(n, p)]

    # === Classes of tied channels ===

    def _number(self):
        """Gives each channel of each value a number."""
        self._starts = {}
        self._count = 0
        for value in self.graph.values:
            self._starts[id(value)] = self._count
            self._count += value.size

    def _numbers(self, node, position, channels):
        value = node.output if position < 0 else node.inputs[position]
        return self._starts[id(value)] + channels

    def _tie(self):
        edges = [np.zeros((2, 0), int)]
        for node in self.graph.nodes:
            if node.rule is BARRIER:
                continue
            for one, ones, other, others in node.rule.ties(node):
                edges.append(
                    [
                        self._numbers(node, one, ones),
                        self._numbers(node, other, others),
                    ]
                )
            edges.extend(self._parts(node))
            edges.extend(self._paired(node))
            if node.operation.shared:
                edges.extend(self._shared(node))
        rows, columns = np.concatenate(edges, axis=1)
        self._labels = _components(self._count, rows, columns)

    def _parts(self, node):
        """Several outputs of one node have the same channels."""
        if len(node.outputs) > 1:
            start = self._starts[id(node.output)]
            for value, part in zip(node.outputs, node.rule.parts(node)):
                channels = self._starts[id(value)] + np.arange(value.size)
                yield [start + part, channels]

    def _paired(self, node):
        """What one call reads is what the other makes, of the same weights."""
        pair = node.operation.paired
        if pair and not node.rule.creates(node):
            channels = np.arange(node.input.size)
            yield [
                self._numbers(pair.nodes[0], -1, channels),
                self._numbers(node, 0, channels),
            ]

    def _shared(self, node):
        """Calls of one layer use the same weights for the same channels."""
        first = node.operation.nodes[0]
        for position in range(-1, len(node.inputs)):
            value = node.output if position < 0 else node.inputs[position]
            channels = np.arange(value.size)
            yield [
                self._numbers(first, position, channels),
                self._numbers(node, position, channels),
            ]

    def _pin(self):
        """Finds what has to stay, and why."""
        self._fixed = {}
        for value in keras.tree.flatten(self.graph.inputs):
            self._fix(self.labels(value), "an input of the model")
        for value in keras.tree.flatten(self.graph.outputs):
            self._fix(self.labels(value), "an output of the model")
        for node in self.graph.nodes:
            pins = node.rule.pins(node)
            reason = f"'{node.name}'"
            if node.rule is BARRIER:
                reason += f" is {node.reasons[-1]}"
                for value in node.outputs:
                    self._fix(self.labels(value), reason)
            else:
                reason += " needs all of them"
            for value, mask in zip(node.inputs, pins, strict=True):
                self._fix(self.labels(value)[mask], reason)

    def _fix(self, labels, reason):
        for label in np.unique(labels).tolist():
            reasons = self._fixed.setdefault(label, [])
            if reason not in reasons:
                reasons.append(reason)

    def costs(self, cost="params"):
        """What vanishes with each class while all others stay.

        Args:
            cost: `"params"` for weights, `"macs"` for the
                multiply-accumulates of one example.

        Returns:
            An array, indexed by the classes of tied channels.
        """
        arrays = ARRAYS[cost]
        total = np.zeros(self._labels.max(initial=-1) + 1, int)
        for node in self.graph.nodes:
            for count, axes in arrays(node):
                labels = [
                    self._labels[self._numbers(node, position, channels)]
                    for position, channels in axes
                ]
                if not labels:
                    continue
                names = np.unique(np.concatenate(labels))
                before, left = count, count
                for own in labels:
                    found, times = np.unique(own, return_counts=True)
                    gone = np.zeros(len(names), int)
                    gone[np.searchsorted(names, found)] = times
                    before, left = before * len(own), left * (len(own) - gone)
                total[names] += before - left
        return total

    # === Groups of classes ===

    def _group(self):
        """One group for all classes that layers make together.

        And one for those of them that are fixed.
        """
        pairs = [np.zeros((2, 0), int)]
        for node in self.graph.nodes:
            if node.rule.starts_channels(node):
                own = self.labels(node.output)
                pairs.append([own[:-1], own[1:]])
        rows, columns = np.concatenate(pairs, axis=1)
        classes = self._labels.max(initial=-1) + 1
        joined = _components(classes, rows, columns)
        weights = self.costs()
        by_group = {}
        for node in self.graph.nodes:
            if node.rule.starts_channels(node):
                own = self.labels(node.output)
                key = int(joined[own[0]])
                by_group.setdefault(key, set()).update(own.tolist())
        self._indices = np.full(classes, -1)
        groups = []
        for labels in by_group.values():
            labels = np.array(sorted(labels))
            fixed = np.isin(labels, list(self._fixed))
            for own in (labels[~fixed], labels[fixed]):
                if not len(own):
                    continue
                self._indices[own] = len(groups)
                reasons = [self._fixed.get(label, ()) for label in own.tolist()]
                # Each once, in order.
                reasons = list(dict.fromkeys(itertools.chain(*reasons)))
                groups.append(Group(own, weights[own], reasons))
        return groups

    def indices(self, value):
        """For each channel the index of its group, -1 if nobody makes it."""
        return self._indices[self.labels(value)]

    def groups_at(self, value):
        """The groups that run through a value, each once."""
        found = np.unique(self.indices(value)).tolist()
        return [self.groups[index] for index in found if index >= 0]

    def find_parts(self):
        """Tells each group which weights it consists of."""
        for node in self.graph.nodes:
            operation = node.operation
            if node.rule is BARRIER or operation.nodes[0] is not node:
                continue
            if not operation.params:
                continue
            params = dict(operation.params)
            own = node.rule.output_weights(node)
            operation.params = params
            variables = weights_by_name(operation.source)
            labels = self.labels(node.output)
            for group in self.groups_at(node.output):
                inside = np.isin(labels, group.labels)
                place = np.searchsorted(group.labels, labels)
                place = np.append(np.where(inside, place, -1), -1)
                for name, channels in own.items():
                    # The channel -1 finds the -1 at the end.
                    part = place[channels]
                    if np.any(part >= 0):
                        group.parts.append((variables[name], part))

    def _describe(self):
        at = {
            id(value): set(map(id, self.groups_at(value)))
            for value in self.graph.values
        }
        for node in self.graph.nodes:
            if node.rule.starts_channels(node):
                for group in self.groups_at(node.output):
                    _append(group.makers, node.name)
        for node in self.graph.nodes:
            for position, value in enumerate(node.inputs):
                if node.rule.reads_gated(node, position):
                    for group in self.groups_at(value):
                        _append(group.readers, node.name)
            if node.rule is BARRIER or node.rule.starts_channels(node):
                continue
            for group in self.groups_at(node.output):
                before = [
                    value.producer.name
                    for value in node.inputs
                    if value.producer and id(group) in at[id(value)]
                ]
                group.passes.append((node.name, before))


def load_shapes(graph):
    """Gives operations weights of the right shapes that take no memory."""
    for operation in {id(n): n.operation for n in graph.nodes}.values():
        if operation.nodes[0].rule is not BARRIER:
            operation.params = {
                name: np.broadcast_to(np.float32(0), tuple(weight.shape))
                for name, weight in weights_by_name(operation.source).items()
            }


def _components(count, rows, columns):
    graph = sparse.coo_matrix(
        (np.ones(len(rows), bool), (rows, columns)), shape=(count, count)
    )
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def _append(names, name):
    if name not in names:
        names.append(name)


def _names(names):
    return ", ".join(f"'{name}'" for name in names)


def _range(numbers):
    low, high = int(np.min(numbers)), int(np.max(numbers))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
