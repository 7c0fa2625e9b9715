"""Which parts of a gated model's variables are left of it.

The channel graph is asked as in `strip`, but it has other numbers: weights are
random, so that only closed gates, and weights that an optimizer leaves at 0,
make zeros, and none is a constant that a bias could stand in for. What remains
of a layer is what the rule of its type selects of weights that are their own
positions.
"""

import dataclasses

import keras
import numpy as np

from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.graph.analyze import find_rules
from l0keras.graph.bake_recurrent import given_gates
from l0keras.graph.graph import unknown
from l0keras.graph.graph import weights_by_name
from l0keras.graph.rules import BARRIER
from l0keras.graph.rules.elementwise import Augmentation
from l0keras.graph.trace import trace
from l0keras.optimizers import WrappedOptimizer
from l0keras.optimizers import optimizers_of
from l0keras.shrinking.stand_ins import StandIns
from l0keras.shrinking.stand_ins import gated_axes
from l0keras.shrinking.stand_ins import gated_on
from l0keras.shrinking.stand_ins import gated_parts
from l0keras.shrinking.stand_ins import may_open
from l0keras.shrinking.stand_ins import number_of_gates
from l0keras.stripping.constants import load_params
from l0keras.stripping.kept import choose_kept
from l0keras.stripping.live import find_live
from l0keras.stripping.plan import check_widths
from l0keras.stripping.simplify import simplify

# They make other numbers of zeros in training.
_NOT_ZERO_IN_TRAINING = (keras.layers.AlphaDropout, keras.layers.GaussianNoise)


@dataclasses.dataclass
class Part:
    """What is left of a layer or an op.

    Attributes:
        changes: those of the configuration of the layer, by the rule.
        indices: by the positions of the layer's weights (in the plain layer,
            of a gated one) integer arrays of the shapes of what is left: the
            position of each number in the flat weight. Weights of which all
            is left are not in it.
        kept: for each gated layer in it a list with a mask for each axis of
            its gates.
    """

    changes: dict
    indices: dict
    kept: list


def plan(model, min_units=1, round_to=None, zeros=None):
    """Works out what `shrink` cuts, without cutting.

    Args:
        model: a built `keras.Model`.
        min_units, round_to: as in `strip`.
        zeros: which weights stay 0, see `zeros_for_good`; what the optimizer
            of the model says by default.

    Returns:
        A `Graph`, see `stripping.plan`, and a dictionary of a `Part` for each
        operation in it that has a rule, by the ids of the operations.

    Raises:
        ValueError: `model` cannot be read; `min_units` or `round_to` is below
            1.
    """
    round_to = check_widths(min_units, round_to)
    whole = set()
    zeros = zeros_for_good(model) if zeros is None else zeros
    while True:
        graph = _graph(model, whole, zeros)
        find_live(graph, min_units, round_to, _propagate_zeros)
        # Sums with a branch that is closed as a whole.
        while simplify(graph, idle=True):
            _propagate_zeros(graph)
            find_live(graph, min_units, round_to, _propagate_zeros)
        choose_kept(graph)
        parts, failed = _parts(graph)
        if not failed:
            return graph, parts
        # What a rule makes new numbers of cannot go on as it was.
        whole |= failed


def zeros_for_good(model):
    """Which weights the optimizer of a model has set to 0 for good.

    Returns:
        A dictionary from paths of variables to boolean arrays, see
        `WrappedOptimizer.zeros_for_good`.
    """
    zeros = {}
    optimizer = getattr(model, "optimizer", None)
    for one in optimizers_of(optimizer, WrappedOptimizer):
        zeros.update(one.zeros_for_good())
    return zeros


def _graph(model, whole, zeros):
    graph = trace(model, stand_ins=StandIns())
    for node in graph.nodes:
        if id(node.operation.owner) in whole:
            # No rule knows this type.
            node.operation.source = _Whole(node.operation.owner)
    find_rules(graph)
    # The operations that there are before any is found idle.
    graph.before = _operations(graph)
    load_params(graph)
    rng = np.random.default_rng(0)
    for operation in _operations(graph):
        patterns = _patterns(operation, zeros)
        for position, (name, array) in enumerate(operation.params.items()):
            numbers = rng.random(array.shape, "float32") + 0.5
            operation.params[name] = numbers * patterns[position]
    _propagate_zeros(graph)
    return graph


class _Whole:
    """Stands for a layer that has to stay as it is."""

    def __init__(self, layer):
        self.layer = layer
        self.name = layer.name
        self.weights = layer.weights


def _operations(graph):
    return list({id(n.operation): n.operation for n in graph.nodes}.values())


def _patterns(operation, zeros):
    """Zeros and ones for the weights of a layer: 0 for those that stay 0."""
    patterns = [
        np.where(zeros.get(getattr(weight, "path", None), False), 0.0, 1.0)
        for weight in all_weights(operation)
    ]
    if operation.owner is operation.source:
        return patterns
    given = given_gates(operation.nodes[0].call, may_open)
    gated = []
    for part in gated_parts(operation.owner):
        open_gates = may_open(part.gate) if given is None else given
        gated.extend(gated_on(part, open_gates, 1.0))
    if gated:
        patterns = [a * b for a, b in zip(patterns, gated, strict=True)]
    return patterns


def _propagate_zeros(graph):
    """Forwards: finds the channels that are 0 because gates are closed."""
    for value in keras.tree.flatten(graph.inputs):
        value.constants = unknown(value.size)
    for node in graph.nodes:
        for value in node.outputs:
            value.constants = unknown(value.size)
        if node.rule is BARRIER:
            continue
        if isinstance(node.operation.owner, SharedGate):
            constants = np.where(may_open(node.operation.owner), np.nan, 0.0)
        elif _changes_zeros(node):
            continue
        else:
            constants = node.rule.constants(node)
        constants = np.where(constants == 0, 0.0, np.nan)
        for value, part in zip(node.outputs, node.rule.parts(node)):
            value.constants = constants[part]


def _changes_zeros(node):
    """Whether a node may make something but 0 of 0 in training."""
    if isinstance(node.rule, Augmentation):
        return True
    if not isinstance(node.layer, keras.Layer):
        return False
    return any(
        isinstance(layer, _NOT_ZERO_IN_TRAINING)
        for layer in node.layer._flatten_layers()
    )


# === What is left of each layer ===


def _parts(graph):
    """The parts of all operations, and the owners of those without any."""
    parts, failed = {}, set()
    for node in graph.nodes:
        operation = node.operation
        if node.rule is BARRIER or not node.alive or id(operation) in parts:
            continue
        part = _part(node)
        if part is None:
            failed.add(id(operation.owner))
        parts[id(operation)] = part
    return parts, failed


def _part(node):
    """The `Part` of a node's operation, `None` if there is no such."""
    operation, owner = node.operation, node.operation.owner
    if isinstance(owner, HardConcreteGate):
        return Part({}, {}, [_kept_of_gate(node)])
    marks, changes, selected = _select(node)
    if selected is None:
        return None
    indices = {
        position: index
        for position, index in selected.items()
        if not np.array_equal(index.ravel(), np.arange(marks[position]))
    }
    kept = []
    if owner is not operation.source and gated_parts(owner):
        kept = _kept_inside(owner, marks, selected)
        if kept is None:
            return None
    return Part(changes, indices, kept)


def _kept_of_gate(node):
    """The masks of a gate, from the channels of its output."""
    gate, value = node.operation.owner, node.output
    mask = np.isin(np.arange(value.size), value.kept)
    if isinstance(gate, SharedGate):
        return [mask]
    return [
        mask if axis == value.axis else np.ones(value.shape[axis], bool)
        for axis in gated_axes(gate, value.rank)
    ]


def _select(node):
    """What the rule selects of weights that are their own positions.

    Returns:
        The sizes of the weights; the changes of the configuration; and the
        selected positions by those of the weights, `None` if the rule makes
        other numbers or leaves weights out.
    """
    operation, params = node.operation, node.operation.params
    sizes = [np.size(array) for array in params.values()]
    zeros = [np.asarray(array) == 0 for array in params.values()]
    # Each number says whose it is, too.
    starts = np.cumsum([1, *sizes])
    numbers = [
        np.arange(start, start + size, dtype="float64").reshape(zero.shape)
        for start, size, zero in zip(starts, sizes, zeros)
    ]

    def shrunk(arrays):
        operation.params = dict(zip(params, arrays))
        changes, weights = node.rule.shrink(node)
        operation.params = {}
        return changes, list(weights.values())

    # Some rules go by zeros once more.
    marked = [np.where(zero, 0.0, n) for n, zero in zip(numbers, zeros)]
    changes, arrays = shrunk(marked)
    if any(np.any(np.asarray(array) == 0) for array in arrays):
        others, full = shrunk(numbers)
        same = len(full) == len(arrays) and all(
            np.shape(a) == np.shape(b)
            and np.all((a == 0) | (np.asarray(a) == np.asarray(b)))
            for a, b in zip(arrays, full)
        )
        if not same:
            return sizes, changes, None
        changes, arrays = others, full
    selected = {}
    for array in arrays:
        found = _decoded(np.asarray(array), starts)
        if found is None or found[0] in selected:
            return sizes, changes, None
        selected[found[0]] = found[1]
    if len(selected) != len(sizes):
        return sizes, changes, None
    return sizes, changes, selected


def _decoded(array, starts):
    """Whose positions an array has, and which; `None` if it has others."""
    whole = array.astype("int64")
    if array.size == 0 or np.any(whole != array):
        return None
    owner = int(np.searchsorted(starts, whole.flat[0], side="right")) - 1
    if not 0 <= owner < len(starts) - 1:
        return None
    index = whole - starts[owner]
    if np.any(index < 0) or np.any(whole >= starts[owner + 1]):
        return None
    seen = np.zeros(starts[owner + 1] - starts[owner], bool)
    seen[index] = True
    if np.count_nonzero(seen) != index.size:
        return None
    return owner, index


def _kept_inside(owner, sizes, selected):
    """The masks of the gates in a gated layer, or a wrapper around some."""
    kept, first = [], 0
    for part in gated_parts(owner):
        shape = number_of_gates(part)
        count = int(np.prod(shape))
        # From 1 on, as 0 is no gate.
        numbers = np.arange(1, count + 1).reshape(shape)
        arrays = gated_on(part, numbers, 0.0)
        masks = None
        for array in arrays:
            index = selected[first]
            first += 1
            found = np.unique(array.ravel()[index.ravel()]).astype(int)
            found = found[found > 0] - 1
            if len(found) == 0:
                continue
            places = np.unravel_index(found, shape)
            now = [
                np.isin(np.arange(size), place)
                for size, place in zip(shape, places)
            ]
            if np.prod([mask.sum() for mask in now]) != len(found):
                return None
            if masks is None:
                masks = now
            elif not all(map(np.array_equal, masks, now)):
                return None
        kept.append(masks)
    return kept


def all_weights(operation):
    """The weights of a layer in the order of the positions in a `Part`."""
    parts = gated_parts(operation.owner)
    if operation.owner is operation.source or not parts:
        return list(weights_by_name(operation.owner).values())
    return [w.weight for part in parts for w in part.gated_weights()]
