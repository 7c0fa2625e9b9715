import keras
import numpy as np

from l0keras.gates import SharedGate
from l0keras.graph.analyze import find_rules
from l0keras.graph.costs import ARRAYS
from l0keras.graph.costs import check_cost
from l0keras.graph.groups import load_shapes
from l0keras.graph.rules import BARRIER
from l0keras.graph.rules import merge
from l0keras.graph.trace import trace

# What a channel has in the place of the number of a gate.
_UNGATED = -1
_UNREAD = -2


class GatedArrays:
    """Which gates close the rows and columns of a model's weights.

    A channel that comes out of a gate is closed with it, as long as what
    follows keeps channels apart; a sum is closed with a gate only where all
    that it adds up is. A channel that goes into nothing but one gate need not
    be made where that is closed.

    Args:
        model: a functional model with gates. It is only read.
        gates: the names of the gate layers that count, a list, in order.
            Others are taken for open.
        cost: what to count, `"params"` or `"macs"` (multiply-accumulates of
            one example).

    Raises:
        ValueError: an unknown `cost`, or, for multiply-accumulates, a model
            whose shapes are not fixed.
    """

    def __init__(self, model, gates, cost="params"):
        check_cost(cost)
        self._arrays_of = ARRAYS[cost]
        self.graph = trace(model)
        find_rules(self.graph)
        load_shapes(self.graph)
        units = [model.get_layer(name).test_gates().size for name in gates]
        self._starts = np.concatenate([[0], np.cumsum(units)])
        self._index = {name: index for index, name in enumerate(gates)}
        self._closed_by = {}
        self._needed_by = {}
        self._forwards()
        self._backwards()

    @property
    def units(self):
        """How many gates each layer has, a list of integers."""
        return np.diff(self._starts).tolist()

    # === Gates of channels ===

    def _gates(self, node):
        """The numbers of the gates that a node is, or `None`."""
        is_gate = node.operation.gate or isinstance(node.layer, SharedGate)
        index = self._index.get(node.name) if is_gate else None
        if index is None:
            return None
        return np.arange(self._starts[index], self._starts[index + 1])

    def _forwards(self):
        for value in keras.tree.flatten(self.graph.inputs):
            self._closed_by[id(value)] = np.full(value.size, _UNGATED)
        for node in self.graph.nodes:
            closed = self._gates(node)
            for value in node.outputs:
                if closed is None:
                    closed = self._passed_on(node, value)
                self._closed_by[id(value)] = closed

    def _passed_on(self, node, value):
        closed = np.full(value.size, _UNREAD)
        scale = getattr(node.layer, "scale", None)
        if not _passes(node) or (
            isinstance(node.layer, keras.layers.Rescaling)
            and np.all(np.asarray(scale) == 0)
        ):
            return np.full(value.size, _UNGATED)
        for given, source in zip(node.inputs, node.rule.sources(node)):
            own = self._closed_by[id(given)][np.maximum(source, 0)]
            if isinstance(node.rule, merge.Multiply):
                closed = np.where(closed < 0, own, closed)
            else:
                own = np.where(source < 0, _UNREAD, own)
                closed = _agreed(closed, own)
        return np.where(closed == _UNREAD, _UNGATED, closed)

    def _backwards(self):
        for value in self.graph.values:
            needed = _UNGATED if value.is_output else _UNREAD
            self._needed_by[id(value)] = np.full(value.size, needed)
        for node in reversed(self.graph.nodes):
            gates = self._gates(node)
            for position, value in enumerate(node.inputs):
                needed = gates
                if needed is None or isinstance(node.layer, SharedGate):
                    needed = self._passed_back(node, position)
                known = self._needed_by[id(value)]
                self._needed_by[id(value)] = _agreed(known, needed)

    def _passed_back(self, node, position):
        value = node.inputs[position]
        if not _passes(node) or node.rule.reads_gated(node, position):
            return np.full(value.size, _UNGATED)
        needed = self._needed_by[id(node.output)]
        sources = node.rule.sources(node)
        if isinstance(node.rule, merge.Multiply):
            for other, source in enumerate(sources):
                if other != position:
                    # Where a factor is 0, nobody needs the other one.
                    own = self._closed_by[id(node.inputs[other])]
                    own = np.where(source < 0, _UNGATED, own[source])
                    needed = np.where(own >= 0, own, needed)
        found = np.full(value.size, _UNREAD)
        source = sources[position]
        if np.array_equal(source, np.arange(value.size)):
            return needed
        for made, given in enumerate(source):
            if given >= 0:
                found[given] = _agreed(found[given], needed[made])
        for one, given, other, made in node.rule.ties(node):
            if (one, other) == (position, -1):
                # Several that make one, of which the source is the first.
                found[given] = _agreed(found[given], needed[made])
        return found

    # === Terms of a cost ===

    def terms(self):
        """The cost of all layers, each gated on the sides where it is.

        Returns:
            A list of `(count, axes)` as `regularizers.ExpectedCost` has them.
            Layers without a channel rule do not count.
        """
        terms = []
        for node in self.graph.nodes:
            for count, axes in self._arrays_of(node):
                axes = [
                    self._axis(node.operation.nodes, position, channels)
                    for position, channels in axes
                ]
                terms.append((count, axes))
        return terms

    def reference_terms(self):
        """The cost as the code of Dep-L0's authors counts it.

        For each gated layer n_{l-1} * n_l * k^2, where n_{l-1} is the number
        of open gates of the gated layer before, whatever the layer really
        reads (in a residual network the sum of a stream). Layers without
        gates do not count.

        Returns:
            A list like that of `terms`.
        """
        terms = []
        before = None
        for index, start in enumerate(self._starts[:-1]):
            node = self._maker(start)
            if before is None:
                before = (node.input.size, {})
            count, _ = max(self._arrays_of(node), key=lambda a: len(a[1]))
            own = (0, {index: 1})
            terms.append((count, [before, own]))
            before = own
        return terms

    def _maker(self, gate):
        """The first layer that makes a channel for nothing but a gate."""
        for node in self.graph.nodes:
            if not _passes(node) and node.rule is not BARRIER:
                if np.any(self._needed_by[id(node.output)] == gate):
                    return node
        name = list(self._index)[
            np.searchsorted(self._starts, gate, side="right") - 1
        ]
        raise ValueError(
            "The reference form of the penalty needs a layer with weights "
            f"before each gate. Received: gate '{name}' without one"
        )

    def _axis(self, calls, position, channels):
        gates = None
        for node in calls:
            own = self._gates_along(node, position)[channels]
            gates = own if gates is None else np.where(gates == own, own, -1)
        axis = {}
        for index, start in enumerate(self._starts[:-1]):
            end = self._starts[index + 1]
            own = gates[(gates >= start) & (gates < end)]
            if len(own):
                sizes = np.bincount(own - start, minlength=end - start)
                uniform = np.all(sizes == sizes[0])
                axis[index] = int(sizes[0]) if uniform else sizes.tolist()
        return int(np.sum(gates < 0)), axis

    def _gates_along(self, node, position):
        if position >= 0:
            return self._closed_by[id(node.inputs[position])]
        needed = self._needed_by[id(node.output)]
        closed = self._closed_by[id(node.output)]
        return np.where(needed >= 0, needed, closed)


def _passes(node):
    return node.rule is not BARRIER and not node.rule.starts_channels(node)


def _agreed(one, other):
    """What both say, nothing where they differ; `_UNREAD` says nothing."""
    one, other = np.asarray(one), np.asarray(other)
    both = np.where(one == other, one, _UNGATED)
    return np.where(
        one == _UNREAD, other, np.where(other == _UNREAD, one, both)
    )
