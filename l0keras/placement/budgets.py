"""What targets mean for the gates of a model: expected costs and limits."""

import dataclasses
import logging
import re

import numpy as np

from l0keras.regularizers import ExpectedCost
from l0keras.targets import surrogate_of
from l0keras.targets.target import size_text

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Vector:
    """One vector of gates, before it is made.

    Args:
        key: what it is for: the id of a `Group` or of a `Value`, or the name
            of a layer with heads.
        name: the name of the gate layer.
        size: the number of gates.
        place: where it stands in the order of the network, a number.
        group: the `Group`, or `None`.
    """

    key: object
    name: str
    size: int
    place: int
    group: object = None


@dataclasses.dataclass(frozen=True)
class Budget:
    """One expected cost that has to be kept to.

    Args:
        target: a `Target` with `at_most`, not for each layer.
        dense: the size of the dense model.
        cost: a `regularizers.ExpectedCost`.
    """

    target: object
    dense: float
    cost: ExpectedCost


@dataclasses.dataclass(frozen=True)
class Asked:
    """A target as a number.

    Args:
        target: a `Target` with `at_most`, not for each layer.
        surrogate: what gates are charged by, a `Surrogate`.
        each: whether the target is one of several of the same.
    """

    target: object
    surrogate: object
    each: bool


def absolute_targets(model, targets, representative_data=None):
    """Targets with numbers in the place of shares, one for each budget.

    Args:
        model: the model without gates.
        targets: a list of `Target`.
        representative_data: as in `size_of`.

    Returns:
        A list of `Asked`.

    Raises:
        ValueError: a target about layers without anything of what it counts.
    """
    found = []
    for target in targets:
        surrogates = surrogate_of(model, target, representative_data)
        if not target.each:
            surrogates = {None: surrogates}
        dense = {name: one.dense for name, one in surrogates.items()}
        absolute = target.absolute(dense if target.each else dense[None])
        for (one, _), surrogate in zip(
            absolute, surrogates.values(), strict=True
        ):
            found.append(Asked(one, surrogate, target.each))
    return found


def make_budgets(ties, vectors, absolute, constants):
    """Makes the budgets of gates.

    Args:
        ties: the `Ties` of the model without gates.
        vectors: a list of `Vector`, in the order of the gates.
        absolute: a list of `Asked`.
        constants: a dictionary of those of the hard concrete.

    Returns:
        A list of `Budget`.

    Raises:
        ValueError: a target is about layers that no gate makes smaller, or
            cannot be reached.
    """
    terms = _Terms(ties, vectors)
    units = [vector.size for vector in vectors]
    budgets = []
    for asked in absolute:
        target, dense = asked.target, asked.surrogate.dense
        own = terms.of(target, asked.surrogate)
        # What no channel is counted with stays as it is.
        gated = ExpectedCost(own, units, **constants)
        rest = dense - gated.of_open(np.ones(sum(units)))
        cost = ExpectedCost([*own, (rest, [])], units, **constants)
        if asked.each and not np.any(cost.gated()):
            _log.warning(
                "Layers named %r stay without a target: no gate frees any of "
                "their %s %s.",
                target.where,
                f"{dense:,.0f}",
                target.of,
            )
            continue
        budgets.append(Budget(target, dense, cost))
        _check(budgets[-1])
    if not budgets:
        raise ValueError(
            "Argument `target` must be about layers that gates can make "
            f"smaller. Received: {[asked.target for asked in absolute]}, but "
            "no gate frees any of them; `l0keras.channel_groups(model)` says "
            "why"
        )
    return budgets


def _check(budget):
    target, dense, cost = budget.target, budget.dense, budget.cost
    asked = size_text(target.of, target.at_most)
    size = f"{asked}, of {size_text(target.of, dense)}"
    if target.where is not None:
        size += f" of layers named {target.where!r}"
    if not np.any(cost.gated()) and target.at_most < dense:
        raise ValueError(
            "Argument `target` must be about layers that gates can make "
            f"smaller. Received: {size}, but no gate frees any of them; "
            "`l0keras.channel_groups(model)` says why"
        )
    least = cost.of_open(cost.least())
    if target.at_most < least:
        raise ValueError(
            "Argument `target` must be a size that can be reached. Received: "
            f"{size}. The smallest is {size_text(target.of, least)}, a share "
            f"of {least / dense:.4f}, with one unit left in each layer"
        )


class _Terms:
    """The costs of layers by the gates that make them smaller."""

    def __init__(self, ties, vectors):
        self._ties = ties
        self._vectors = vectors
        self._index = {v.key: number for number, v in enumerate(vectors)}

    def of(self, target, surrogate):
        """Terms as `regularizers.ExpectedCost` has them."""
        if target.of == "units":
            return self._units(target)
        terms = []
        for node in self._ties.graph.nodes:
            terms.extend(self._of_node(node, surrogate.arrays(node)))
        return terms

    def _of_node(self, node, arrays):
        terms = []
        for count, axes in arrays:
            gated = [self._axis(node, *axis) for axis in axes]
            heads = self._index.get(node.name)
            if heads is not None and count > 1:
                # Only the bias of the output is not one of heads.
                size = self._vectors[heads].size
                count = count / size
                gated.append((0, {heads: 1}))
            terms.append((count, gated))
        return terms

    def _axis(self, node, position, channels):
        """How many indices are not gated, and how many each gate is on."""
        value = node.output if position < 0 else node.inputs[position]
        own = self._index.get(id(value))
        if own is not None and value.rank == 2 and position >= 0:
            size = self._vectors[own].size
            return 0, {own: np.bincount(channels, minlength=size).tolist()}
        labels = self._ties.labels(value)[channels]
        indices = self._ties.indices(value)[channels]
        constant, gates = 0, {}
        for index in np.unique(indices).tolist():
            mine = labels[indices == index]
            group = self._ties.groups[index] if index >= 0 else None
            number = self._index.get(id(group)) if group else None
            if number is None:
                constant += len(mine)
                continue
            places = np.searchsorted(group.labels, mine)
            gates[number] = np.bincount(places, minlength=group.size).tolist()
        return constant, gates

    def _units(self, target):
        terms = []
        for group in self._ties.groups:
            if group.fixed or not any(
                _fits(name, target) for name in group.makers
            ):
                continue
            number = self._index.get(id(group))
            if number is None:
                terms.append((group.size, []))
            else:
                terms.append((1, [(0, {number: 1})]))
        return terms


def _fits(name, target):
    return target.where is None or bool(re.search(target.where, name))
