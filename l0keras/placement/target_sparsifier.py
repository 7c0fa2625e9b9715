import functools
import logging

import keras
import numpy as np

from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.placement.budgets import Vector
from l0keras.placement.budgets import make_budgets
from l0keras.placement.generated_gates import GeneratedGates
from l0keras.placement.generated_gates import constants_of
from l0keras.placement.sparsifier import Sparsifier

_log = logging.getLogger(__name__)


class TargetSparsifier(Sparsifier):
    """Builds the copy whose gates one layer holds to a size.

    All gates are made by that layer, those of heads and of flat inputs too.
    """

    def __init__(self, ties, gates, gated_layers, cost):
        super().__init__(ties, gates, gated_layers, cost)
        # Flat inputs with gates, by the value's id: its name and itself.
        self.features = {}
        # Vectors of gates of heads, by the names of layers.
        self.heads = {}
        # Layers that have gates inside with a price only.
        self.ungiven = []

    def gate_features(self, chooser, features):
        """Gives flat inputs a gate for each position."""
        for name, value in features.items():
            choice = chooser.choice([name])
            if choice is not None:
                self.features[id(value)] = (name, value)
                self.gates[id(value)] = choice

    def budget(self, arguments, dependence, absolute, steps, controller):
        """Lets one layer make all `log_alpha`, and keep to targets.

        Args:
            arguments: those of all gates.
            dependence: as in `sparsify`.
            absolute: what `absolute_targets` gives.
            steps, controller: as in `sparsify`.
        """
        self._leave_ungiven()
        vectors = sorted(self._all_vectors(), key=lambda v: v.place)
        if not vectors:
            raise ValueError(
                "Argument `model` must have channels to gate, with a "
                f"`target`. Received: model '{self.graph.model.name}' without "
                f"any{_of_ungiven(self.ungiven)}; "
                "`l0keras.channel_groups(model)` says why"
            )
        constants = constants_of(arguments)
        budgets = make_budgets(self.ties, vectors, absolute, constants)
        self.gate_names = {v.key: v.name for v in vectors}
        chosen = {**self.gates, **self.tied_gates, **self.gated_layers}
        self.generated = GeneratedGates(
            {v.name: v.size for v in vectors},
            arguments,
            dependence,
            self.cost,
            "separate",
            droprate_init=[chosen[v.key]["droprate_init"] for v in vectors],
            make=functools.partial(
                controller, steps=steps, budgets=len(budgets)
            ),
        )
        generator = self.generated.generator
        generator.set_budgets(
            [budget.cost for budget in budgets],
            [budget.target.at_most for budget in budgets],
            [budget.target for budget in budgets],
        )
        self.unique(generator.name)
        self.own(generator)

    def _leave_ungiven(self):
        """Leaves layers without gates inside that cannot be given any."""
        for name, arguments in self.gated_layers.items():
            node = self._nodes[name]
            if arguments is None or name in self.tied:
                continue
            if not isinstance(node.layer, keras.layers.MultiHeadAttention):
                self.gated_layers[name] = None
                self.ungiven.append(name)
                _log.warning(
                    "Layer '%s' (%s) gets no gates: with a target, they are "
                    "given from outside, which this layer does not take.",
                    name,
                    type(node.layer).__name__,
                )

    def _all_vectors(self):
        """A `Vector` for all gates there are to be."""
        order = {node.name: n for n, node in enumerate(self.graph.nodes)}
        for name, value in self.features.values():
            yield Vector(id(value), self.unique(f"{name}_gate"), value.size, -1)
        for group in self.ties.groups:
            if id(group) in {**self.gates, **self.tied_gates}:
                name = self.unique(f"{group.name}_gate")
                place = order[group.makers[0]]
                yield Vector(id(group), name, group.size, place)
        for name, arguments in self.gated_layers.items():
            if arguments is not None and name not in self.tied:
                heads = self._nodes[name].layer._num_heads
                gate = self.unique(f"{name}_gate")
                yield Vector(name, gate, heads, order[name])

    # === The copy ===

    def call(self, node, layer, args, kwargs):
        if node.name in self.gate_names:
            kwargs = {**kwargs, "gates": self._head_gates(node.name, layer)}
        return super().call(node, layer, args, kwargs)

    def _given_arguments(self, key):
        """The arguments of a gate that is about no group of channels."""
        chosen = {**self.gates, **self.gated_layers}[key]
        arguments = {**chosen, "name": self.gate_names[key]}
        if arguments.get("seed") is not None:
            # Beyond those of groups.
            arguments["seed"] += len(self.ties.groups)
            arguments["seed"] += list(self.gate_names).index(key)
        return arguments

    def _head_gates(self, name, layer):
        """The gates of the heads of a layer, of shape (1 or batch, heads)."""
        if name not in self.heads:
            gate = SharedGate(
                layer._num_heads,
                dtype=layer.compute_dtype,
                **self._given_arguments(name),
            )
            vector = self.own(gate)(
                self._anchor(), **self._call_arguments(name)
            )
            # A layer may be called several times.
            self.heads[name] = vector
        return self.heads[name]

    def _read(self, value, tensor):
        if id(value) not in self.features:
            return super()._read(value, tensor)
        gate = HardConcreteGate(
            dtype=tensor.dtype, **self._given_arguments(id(value))
        )
        return self.own(gate)(tensor, **self._call_arguments(id(value)))


def flat_inputs(ties):
    """Flat tensors that nobody makes, by names: their values.

    Such as features of a table, or the pixels of an image that was flattened.
    Layers that read some of their positions can do without the others,
    but for layers that are called several times.
    """
    found = {}
    for value in ties.graph.values:
        readers = ties.gated_readers(value)
        if value.rank != 2 or not readers:
            continue
        if any(len(node.operation.nodes) > 1 for node, _ in readers):
            # A position goes only if it does in all calls of a layer.
            continue
        if not value.selectable or np.any(ties.indices(value) >= 0):
            continue
        if value.size > 1 and keras.backend.is_float_dtype(value.tensor.dtype):
            producer = value.producer
            name = producer.name if producer else _input_name(value)
            found[name] = value
    return found


def _input_name(value):
    return value.tensor._keras_history.operation.name


def _of_ungiven(names):
    if not names:
        return ""
    return f": with a target, {names} get none, other than with a price"
