import inspect
import logging

import keras
import numpy as np
from keras import ops

from l0keras.gates import GateGenerator
from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.gates import gates_of
from l0keras.graph.builder import Builder
from l0keras.placement.gated_inside import fill
from l0keras.placement.gated_inside import with_gates
from l0keras.placement.generated_gates import GeneratedGates

_log = logging.getLogger(__name__)
# In the place of weights: they are those of the original.
_GATED_INSIDE = object()


class Sparsifier(Builder):
    """Builds a copy of a model, with gates where channels are read.

    Args:
        ties: the `Ties` of the model.
        gates: arguments of gates, by the id of a group.
        gated_layers: the same by the names of layers that have gates inside;
            `None` for none.
        cost: as in `sparsify`.
    """

    def __init__(self, ties, gates, gated_layers, cost):
        super().__init__(ties.graph)
        self.ties = ties
        self.gates = gates
        self.gated_layers = gated_layers
        self.cost = cost
        self.costs = ties.costs(cost)
        # Groups whose gates several layers have inside, by these' names, and
        # the arguments of the gates by the id of a group.
        self.tied = {}
        self.tied_gates = {}
        self.generated = None
        self.gate_names = {}
        self._nodes = {node.name: node for node in self.graph.nodes}
        self.vectors = {}
        self.gated = {}
        # Values with a gate layer of their own; hoisted ones are multiplied
        # for all readers, others only for those where channels end.
        self.places = {}
        self.hoisted = {}
        self._choose_places()

    # === Where gates go ===

    def _choose_places(self):
        """Finds the groups that one gate layer in one place will do for.

        That is a group that is read in one place. Of the tensors on the way
        there, which only pass its channels on, the smallest is taken. Other
        groups give out their gates as vectors.
        """
        reads = {id(group): (group, []) for group in self.ties.groups}
        for value in self.graph.values:
            if self.ties.gated_readers(value):
                for group in self.ties.groups_at(value):
                    reads[id(group)][1].append(value)
        for group, values in reads.values():
            if id(group) in self.gates and len(values) == 1:
                place = self._place_for(group, values[0])
                if place is values[0]:
                    self.places[id(place)] = group
                elif place is not None:
                    self.hoisted[id(place)] = group
        placed = [*self.places.values(), *self.hoisted.values()]
        for group, values in reads.values():
            if id(group) not in self.gates or group in placed:
                continue
            if not all(value.selectable for value in values):
                # A product with a vector of gates would drop the mask.
                del self.gates[id(group)]
                _log.info("%s: no gates: read in several places, masked", group)

    def _place_for(self, group, value):
        found = [value]
        alone = len(self.ties.gated_readers(value)) == len(value.readers)
        while alone:
            node = value.producer
            if node is None or len(node.inputs) != 1:
                break
            if not node.rule.is_homogeneous(node):
                break
            value = node.input
            found.append(value)
            alone = len(value.readers) == 1
        found = [
            value
            for value in found
            if np.array_equal(self.ties.labels(value), group.labels)
        ]
        if not found:
            return None
        sizes = [np.prod([n or 1 for n in v.shape[1:]]) for v in found]
        return found[int(np.argmin(sizes))]

    def tie_inside(self, chooser, alone=False):
        """Gives layers whose units go together the same gates inside.

        Such as an encoder and a decoder that starts from its states.

        Args:
            chooser: the `Chooser` of the gates' arguments.
            alone: whether a layer whose units go with no others is given
                gates, too, instead of having its own.
        """
        for group in self.ties.groups:
            nodes = [n for n in self.graph.nodes if n.name in group.makers]
            if group.fixed or len(group.makers) < (1 if alone else 2):
                continue
            if not all(self._makes_alone(node, group) for node in nodes):
                continue
            choice = chooser.choice(group.makers)
            for name in group.makers:
                self.gated_layers[name] = None if choice is None else {}
                if choice is not None:
                    self.tied[name] = group
                    self.tied_gates[id(group)] = choice

    def _makes_alone(self, node, group):
        """Whether a layer with gates inside makes a group and no others."""
        return (
            node.name in self.gated_layers
            and isinstance(node.layer, keras.layers.RNN)
            and np.array_equal(self.ties.labels(node.output), group.labels)
        )

    # === Gates ===

    def generate(self, arguments, dependence, penalty):
        """Lets a generator make `log_alpha` for all gates."""
        groups = [g for g in self.ties.groups if id(g) in self.gates]
        if not groups:
            raise ValueError(
                "Argument `model` must have channels to gate, with "
                f"`dependence` or a joint `penalty`. Received: model "
                f"'{self.graph.model.name}' without any"
            )
        names = {id(g): self.unique(f"{g.name}_gate") for g in groups}
        rates = [self.gates[id(g)]["droprate_init"] for g in groups]
        if penalty != "separate":
            for group in groups:
                self.gates[id(group)] = {**self.gates[id(group)], "l0": 0.0}
        self.gate_names = names
        self.generated = GeneratedGates(
            {names[id(g)]: g.size for g in groups},
            arguments,
            dependence,
            self.cost,
            penalty,
            droprate_init=rates,
        )
        self.unique(self.generated.generator.name)
        self.own(self.generated.generator)

    def model(self):
        model = super().model()
        if self.generated is not None:
            self.generated.charge(model)
        return model

    def freeze(self, model):
        # The model's own flag would stop the gates, too.
        for layer in model.layers:
            if not isinstance(layer, (HardConcreteGate, GateGenerator)):
                layer.trainable = False

    def new_gates(self, gated):
        """The gates of a model that was built, but for copied ones."""
        own = [g for g in gates_of(self.graph.model) if self.copier.knows(g)]
        copies = {id(self.copier(gate)) for gate in own}
        return [gate for gate in gates_of(gated) if id(gate) not in copies]

    def _call_arguments(self, key):
        """The arguments to call a gate with, beside its input."""
        if self.generated is None:
            return {}
        name = self.gate_names[key]
        return {"log_alpha": self.generated.log_alpha(name, self._anchor())}

    def _anchor(self):
        """An input of the model, for what needs none."""
        return self.tensors[id(keras.tree.flatten(self.graph.inputs)[0])]

    def _arguments(self, group):
        name = self.gate_names.get(id(group))
        arguments = {
            **{**self.gates, **self.tied_gates}[id(group)],
            "group_size": self.costs[group.labels].tolist(),
            "name": name or self.unique(f"{group.name}_gate"),
        }
        if len(set(arguments["group_size"])) == 1:
            arguments["group_size"] = arguments["group_size"][0]
        if arguments.get("seed") is not None:
            arguments["seed"] += self.ties.groups.index(group)
        return arguments

    def _gate(self, group, value, tensor):
        """One tensor times the gates of the group that it is."""
        gate = HardConcreteGate(
            axis=value.axis, dtype=tensor.dtype, **self._arguments(group)
        )
        return self.own(gate)(tensor, **self._call_arguments(id(group)))

    def _vector(self, group, dtype):
        """The gates of a group, of shape (1 or batch, size)."""
        key = id(group), dtype
        if key not in self.vectors:
            known = [t for k, t in self.vectors.items() if k[0] == id(group)]
            if known:
                vector = ops.cast(known[0], dtype)
            else:
                gate = SharedGate(
                    group.size, dtype=dtype, **self._arguments(group)
                )
                vector = self.own(gate)(
                    self._anchor(), **self._call_arguments(id(group))
                )
            self.vectors[key] = vector
        return self.vectors[key]

    def _factors(self, value, dtype):
        """Factors for all channels of a value, or `None` for all ones."""
        labels, indices = self.ties.labels(value), self.ties.indices(value)
        hoisted = {id(group) for group in self.hoisted.values()}
        for group in self.ties.groups_at(value):
            if id(group) not in self.gates or id(group) in hoisted:
                indices = np.where(np.isin(labels, group.labels), -1, indices)
        if np.all(indices < 0):
            return None
        # All gates of the groups one after the other, and then the number 1.
        gates, starts, size = [], {}, 0
        for index in dict.fromkeys(indices[indices >= 0].tolist()):
            gates.append(self._vector(self.ties.groups[index], dtype))
            starts[index] = size
            size += self.ties.groups[index].size
        if np.any(indices < 0):
            one = ops.take(gates[0], [0], axis=1)
            ones = keras.layers.Rescaling(
                0.0, 1.0, dtype=dtype, name=self.unique("ungated")
            )
            gates.append(self.own(ones)(one))
        channels = np.full(value.size, size)
        for index, start in starts.items():
            own = indices == index
            place = np.searchsorted(self.ties.groups[index].labels, labels[own])
            channels[own] = start + place
        factors = ops.concatenate(gates, axis=1) if gates[1:] else gates[0]
        if np.array_equal(channels, np.arange(factors.shape[1])):
            return factors
        return ops.take(factors, channels.tolist(), axis=1)

    # === The copy ===

    def clone(self, node):
        arguments = self.gated_layers.get(node.name)
        if arguments is None:
            return super().clone(node)
        if arguments.get("seed") is not None:
            seed = arguments["seed"] + self.graph.nodes.index(node)
            arguments = {**arguments, "seed": seed}
        return with_gates(node.layer, node.name, arguments), _GATED_INSIDE

    def call(self, node, layer, args, kwargs):
        if self.gated_layers.get(node.name) is not None:
            # What it takes the place of may know further arguments, and in
            # another order.
            names = list(inspect.signature(node.layer.call).parameters)
            named = {**dict(zip(names[1:], args[1:])), **kwargs}
            args = args[:1]
            kwargs = {k: v for k, v in named.items() if v is not None}
        if node.name in self.tied:
            gates = self._vector(self.tied[node.name], layer.compute_dtype)
            kwargs = {**kwargs, "gates": gates}
        return super().call(node, layer, args, kwargs)

    def fill(self, layer, source, weights):
        if weights is not _GATED_INSIDE:
            return super().fill(layer, source, weights)
        fill(layer, source)

    def place(self, value, tensor):
        if id(value) in self.hoisted:
            tensor = self._gate(self.hoisted[id(value)], value, tensor)
        super().place(value, tensor)

    def given(self, node, position):
        value = node.inputs[position]
        tensor = super().given(node, position)
        if (node, position) not in self.ties.gated_readers(value):
            return tensor
        if id(value) not in self.gated:
            self.gated[id(value)] = self._read(value, tensor)
        return self.gated[id(value)]

    def _read(self, value, tensor):
        """A tensor as layers read it that make other channels of it."""
        if id(value) in self.places:
            return self._gate(self.places[id(value)], value, tensor)
        factors = self._factors(value, tensor.dtype)
        if factors is None:
            return tensor
        if value.rank > 2:
            shape = [-1] + [1] * (value.rank - 1)
            shape[value.axis] = value.size
            factors = ops.reshape(factors, shape)
        gated = ops.multiply(tensor, factors)
        return self.name(gated, f"{value.producer.name}_gated")
