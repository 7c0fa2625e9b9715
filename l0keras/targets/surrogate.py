import math
from collections.abc import Callable

import keras
import numpy as np

from l0keras.graph.analyze import channel_graph
from l0keras.graph.costs import mac_arrays
from l0keras.graph.costs import weight_arrays
from l0keras.graph.graph import Graph
from l0keras.graph.graph import Node
from l0keras.graph.groups import Ties
from l0keras.graph.groups import load_shapes
from l0keras.targets.file_bytes import LEAST_PER_LAYER
from l0keras.targets.file_bytes import byte_arrays
from l0keras.targets.latency.pieces import pieces
from l0keras.targets.latency.table import check_shapes
from l0keras.targets.latency.table import latency_arrays
from l0keras.targets.size import check_plain
from l0keras.targets.size import size_of
from l0keras.targets.target import Target


class Surrogate:
    """A size as a constant and a sum over arrays of layers.

    Training moves it smoothly with the gates on the arrays' axes, in the place
    of the size itself; at full widths it is that of the dense model.

    Attributes:
        target: the `Target`.
        dense: the size of the dense model, as `size_of` measures it.
        constant: what does not change with the widths of any layer.
        agreement: the sum at full widths before it was made to agree with
            `dense`, as a share of `dense`. 1.0 for what is counted.
    """

    def __init__(
        self,
        target: Target,
        dense: float,
        constant: float,
        arrays: Callable,
        agreement: float = 1.0,
    ):
        self.target = target
        self.dense = dense
        self.constant = constant
        self.agreement = agreement
        self._arrays = arrays

    def arrays(self, node: Node) -> list[tuple]:
        """What a node adds to the size, as `Rule.weights` has weights.

        Args:
            node: a node, with weights, of the channel graph of the dense model
                or of one made from it, with gates or by `strip`.

        Returns:
            A list of `(count, axes)`, empty for a node that adds nothing.
        """
        return self._arrays(node)

    def size(self, graph: Graph) -> float:
        """The size of a model made from the dense one.

        Args:
            graph: its channel graph, with the shapes of weights.
        """
        return self.constant + _sum(self.arrays, graph)

    def __repr__(self):
        return (
            f"<Surrogate of {self.target!r}: {self.dense:,.6g} for the dense "
            f"model, {self.constant:,.6g} of it constant>"
        )


def surrogate_of(
    model: keras.Model,
    target: Target,
    representative_data=None,
    progress: bool | Callable | None = None,
) -> Surrogate | dict[str, Surrogate]:
    """Finds what training is steered by to reach a target.

    Weights, multiply-accumulates and channels are what they are. The bytes of
    a file are taken for proportional to its weights, beside a constant. For
    latencies a table is measured: each distinct layer, with what LiteRT
    computes along with it, at several widths, see `latency.measure`; what it
    says of the whole model is scaled to the time of the model's own file.

    Args:
        model: the dense model, built and without gates. It is only read.
        target: a `Target`.
        representative_data: as in `size_of`.
        progress: while latencies are measured, whether to show a bar, or a
            function of the number of layers that are done and of all. `None`
            shows it on a terminal.

    Returns:
        A `Surrogate`; for `each` a dictionary of them by names of layers.

    Raises:
        ValueError: as `size_of`, or sizes are not fixed, for latencies.
        ImportError, RuntimeError: as `size_of`.
    """
    check_plain(model)
    graph = channel_graph(model)
    load_shapes(graph)
    if target.of == "latency":
        check_shapes(graph)
    dense = size_of(model, target, representative_data)
    if target.of == "bytes":
        arrays = byte_arrays(graph, target.quantization)
        least = min(LEAST_PER_LAYER * len(pieces(graph)), dense / 2)
        constant = max(least, dense - _sum(arrays, graph))
        return _agreeing(target, dense, constant, arrays, graph)
    if target.of == "latency":
        overhead, arrays = latency_arrays(graph, target.quantization, progress)
        # Next to nothing may be measured to take longer than something.
        constant = min(overhead, dense / 2)
        return _agreeing(target, dense, constant, arrays, graph)
    if target.each:
        return {
            name: _counted(target, size, {name}, model, graph)
            for name, size in dense.items()
        }
    names = None
    if target.where is not None:
        each = Target(target.of, 1.0, where=target.where, each=True)
        names = set(size_of(model, each))
    return _counted(target, dense, names, model, graph)


def _agreeing(target, dense, constant, arrays, graph):
    """A surrogate of what is measured, made to agree with it."""
    total = _sum(arrays, graph)
    agreement = (constant + total) / dense
    factor = (dense - constant) / total if total else 0.0

    def scaled(node):
        return [(factor * count, axes) for count, axes in arrays(node)]

    return Surrogate(target, dense, dense - factor * total, scaled, agreement)


def _counted(target, dense, names, model, graph):
    """A surrogate of what is counted, in the layers of these names."""
    if target.of == "units":
        arrays = _unit_arrays(model, names)
    else:
        every = weight_arrays if target.of == "params" else mac_arrays

        def arrays(node):
            return every(node) if names is None or node.name in names else []

    # Layers without a rule have a size, but no arrays.
    constant = dense - _sum(arrays, graph)
    return Surrogate(target, dense, constant, arrays)


def _unit_arrays(model, names):
    """Each channel that can be cut, where it is made first."""
    ties = Ties(model)
    indices, seen = {}, set()
    free = [
        label
        for group in ties.groups
        if not group.fixed
        and (names is None or not names.isdisjoint(group.makers))
        for label in group.labels.tolist()
    ]
    for node in ties.graph.nodes:
        if not node.rule.starts_channels(node):
            continue
        if names is None or node.name in names:
            # Channels that can only be cut together are one.
            labels, first = np.unique(ties.labels(node.output), True)
            own = np.isin(labels, free) & ~np.isin(labels, list(seen))
            seen.update(labels.tolist())
            if np.any(own):
                indices[node.name] = np.sort(first[own])

    def arrays(node):
        own = indices.get(node.name)
        if own is None or node.operation.nodes[0] is not node:
            return []
        return [(1, [(-1, own[own < node.output.size])])]

    return arrays


def _sum(arrays, graph):
    return sum(
        count * math.prod(len(indices) for _, indices in axes)
        for node in graph.nodes
        for count, axes in arrays(node)
    )
