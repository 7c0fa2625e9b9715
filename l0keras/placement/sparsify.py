import functools
import inspect
import logging

import keras
import numpy as np
from keras import ops

from l0keras.gates import GateBudget
from l0keras.gates import GateGenerator
from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.gates import check_steps
from l0keras.gates import gates_of
from l0keras.gates import open_gates
from l0keras.graph.builder import Builder
from l0keras.graph.groups import Ties
from l0keras.graph.lora import has_lora
from l0keras.graph.rules import BARRIER
from l0keras.placement.budgets import Vector
from l0keras.placement.budgets import absolute_targets
from l0keras.placement.budgets import make_budgets
from l0keras.placement.choose import _COMMON
from l0keras.placement.choose import _GATE_ARGUMENTS
from l0keras.placement.choose import _Chooser
from l0keras.placement.choose import _reason_for_none
from l0keras.placement.coverage import warn_of_ungated
from l0keras.placement.gated_inside import fill
from l0keras.placement.gated_inside import is_recurrent
from l0keras.placement.gated_inside import takes_gates
from l0keras.placement.gated_inside import with_gates
from l0keras.placement.generated_gates import GeneratedGates
from l0keras.placement.generated_gates import check_arguments
from l0keras.placement.generated_gates import constants_of
from l0keras.proof import verify
from l0keras.targets import Target
from l0keras.targets import as_targets

_log = logging.getLogger(__name__)
# In the place of weights: they are those of the original.
_GATED_INSIDE = object()


def sparsify(
    model: keras.Model,
    l0: float = 0.0,
    rules: dict[str, bool | dict] | None = None,
    droprate_init: float = 0.05,
    dependence: str | None = None,
    cost: str = "params",
    penalty: str | None = None,
    *,
    target: Target | list[Target] | None = None,
    steps: int | None = None,
    controller: type[GateBudget] = GateBudget,
    representative_data=None,
    check: bool = True,
    **gate_arguments,
) -> keras.Model:
    """Puts gates on a copy of a model wherever something could be cut.

    Channels that can only be cut together share one vector of gates: all
    branches of a residual stream, a tensor and its squeeze-excite factors.
    The gates stand in front of the layers that read the channels, after
    normalization and activation, so a closed gate is an exact zero there and
    `strip` can cut whatever made the channel. Each gate is charged for the
    weights that its channel would free. LSTM, GRU, SimpleRNN and
    MultiHeadAttention become `L0LSTM`, `L0GRU`, `L0SimpleRNN` and
    `L0MultiHeadAttention`, whose gates are on units and heads; recurrent
    layers also inside `Bidirectional` and `TimeDistributed`, and where they
    are an `RNN` with the cell of such a layer. ConvLSTM2D and the like become
    `L0ConvLSTM2D` and the like.

    Source: the gates are those of Louizos, Welling and Kingma, ICLR 2018
    (arXiv:1712.01312), section 2.2, and with `dependence` of Li and Ji,
    ECML-PKDD 2021 (arXiv:2107.00070); the papers place them by hand.

    Args:
        model: a built `keras.Model`: `Sequential`, functional, or with a `call`
            of Keras ops that was called before. Neither it nor its weights are
            changed. Models nested in it become part of
            the result's own graph.
        l0: the price of one weight, at least 0: the papers' lambda divided
            by the number of training examples (that of Dep-L0 is not to be
            divided).
        rules: a dictionary that picks, skips or tunes by the names of the
            layers that make channels. Keys are regular expressions, searched
            for in order; the first that matches decides. A value is `True`
            (gates as usual), `False` (none), or a dictionary of gate
            arguments in the place of those given here. What no key matches
            gets gates as usual; end with `".*": False` for the opposite.
        droprate_init: the share of channels closed at the start, in (0, 1).
            Small by default, for models that are trained already: all test
            gates are 1 then, and the outputs those of `model`. With a
            chain it is what the biases say; the generator's weights still
            close some (7 to 9 of 100 in the paper's networks).
        dependence: `None` for gates that each learn alone; `"forward"` or
            `"backward"` for gates that a `GateGenerator` makes in a chain, in
            the order of the layers that make the channels or against it
            (Dep-L0).
        cost: what `l0` is the price of: `"params"` for weights, `"macs"` for
            multiply-accumulates of one example, which takes fixed shapes.
        penalty: how gates are charged. `"separate"`: each for what its
            channel would free if all others stay, which is what a gate
            alone can do, and the default without a chain. `"joint"`: all
            together for the expected count, a weight as long as both the
            channel that it reads and the one that it makes may be open, and
            the default with a chain; where all gates are 0 or 1 that is what
            `strip` leaves, but for channels that have to stand in for closed
            ones in a sum. `"reference"`: the form of Dep-L0's code, where a
            kernel's inputs are those of the gates before it in the order of
            the chain, whatever the graph.
        target: the size that is asked for, in the place of a price: an
            `l0keras.targets.Target`, or a list of several that all have to be
            reached. All gates are charged together then, see
            `l0keras.GateBudget`, those of positions of flat inputs among
            them, and training ends at about the size; `l0keras.cut` makes
            it exact. No `l0`, `cost` or `penalty` with it.
        steps: with a target, the number of steps that the gates are trained:
            batches, not epochs.
        controller: with a target, the class of the layer that holds the gates
            to it: `l0keras.GateBudget` or a subclass.
        representative_data: as in `l0keras.export_tflite`, for targets of
            files in `"int8"` or `"int16x8"`.
        check: whether to compare the result, with its gates open, with
            `model` on random inputs before it is returned. Random outputs and
            models that take no random inputs are not compared; the log names
            them.
        **gate_arguments: `sample_per`, `temperature`, `gamma`, `zeta`,
            `log_alpha_limit`, `seed` as in `l0keras.HardConcreteGate`. With
            a seed, each gate gets one of its own that derives from it.

    Returns:
        A functional `keras.Model`, not compiled, with the inputs, outputs,
        names, weights and trainable flags of `model` and gates in it. While
        all gates are 1 it gives the same outputs. Gates that are layers by
        themselves learn also where all of `model` is frozen.

    Raises:
        ValueError: `model` is no Keras model, not built, or has a `call` that
            cannot be opened; it has
            nothing to gate in a chain; a key of `rules` is no regular
            expression or matches no layer that makes channels, or changes
            what has to be the same for gates that are charged together; an
            argument is unknown or out of its range; `cost` is `"macs"` and
            the model's shapes are not fixed; a target is about layers that
            gates make no smaller, or below the smallest size.
        RuntimeError: the result differs from `model` by more than rounding
            explains; the message names the first layer that differs.

    Example:

    >>> model = keras.applications.MobileNetV2()
    >>> gated = l0keras.sparsify(
    ...     model,
    ...     l0=0.1 / 50_000,
    ...     rules={"^Conv1$": False, "^block_16": {"l0": 0.2 / 50_000}},
    ... )
    """
    _check_controller(controller, target)
    targets = _targets(target, steps, l0=l0, cost=cost, penalty=penalty)
    penalty = check_arguments(dependence, cost, penalty)
    generated = dependence is not None or penalty != "separate" or bool(targets)
    arguments = {"l0": l0, "droprate_init": droprate_init, **gate_arguments}
    allowed = set(_GATE_ARGUMENTS)
    if generated:
        # The gates have no variables that could be limited.
        allowed.remove("log_alpha_limit")
    together = penalty != "separate" or bool(targets)
    by_rule = allowed - set(_COMMON if together else ())
    chooser = _Chooser(arguments, rules, allowed, by_rule)
    ties = Ties(model)
    recurrent = {
        node.name for node in ties.graph.nodes if is_recurrent(node.layer)
    }
    inside = [
        node.name
        for node in ties.graph.nodes
        if node.rule is not BARRIER
        and takes_gates(node.layer)
        and not has_lora(node.layer)
        and not (node.name in recurrent and not _is_free(node, ties, recurrent))
    ]
    makers = [name for group in ties.groups for name in group.makers]
    features = _features(ties) if targets else {}
    chooser.check([*makers, *inside, *features])
    gated_layers = {name: chooser.choice([name]) for name in inside}
    left_out = [name for name in inside if gated_layers[name] is None]
    gates = {}
    for group in ties.groups:
        reason = _reason_for_none(group)
        if recurrent.issuperset(group.makers):
            reason = "no gates from outside: recurrent units also read it"
        choice = None if reason else chooser.choice(group.makers)
        if choice is not None:
            gates[id(group)] = choice
        elif not reason:
            left_out.append(group)
        _log.info("%s: %s", group, reason or ("gated" if choice else "skipped"))
    warn_of_ungated(
        ties,
        [group for group in ties.groups if id(group) in gates],
        [name for name in inside if gated_layers[name] is not None],
        left_out,
    )
    sparsifier = _Sparsifier(ties, gates, gated_layers, cost)
    if targets:
        sparsifier.tie_inside(chooser, alone=True)
        sparsifier.gate_features(chooser, features)
        absolute = absolute_targets(model, targets, representative_data)
        sparsifier.budget(arguments, dependence, absolute, steps, controller)
    elif generated:
        sparsifier.generate(arguments, dependence, penalty)
    else:
        sparsifier.tie_inside(chooser)
    gated = sparsifier.model()
    if check:
        with open_gates(sparsifier.new_gates(gated)):
            verify(model, gated, "sparsify")
    return gated


def _targets(target, steps, **prices):
    """The targets as a list, empty without any."""
    defaults = {"l0": 0.0, "cost": "params", "penalty": None}
    if target is None:
        if steps is not None:
            raise ValueError(
                "Argument `steps` must be None without a `target`. "
                f"Received: steps={steps!r}"
            )
        return []
    for name, value in prices.items():
        if value != defaults[name]:
            raise ValueError(
                f"Argument `{name}` must be {defaults[name]!r} with a "
                "`target`, which is in the place of a price. "
                f"Received: {name}={value!r}"
            )
    check_steps(steps)
    return as_targets(target)


def _check_controller(controller, target):
    if not isinstance(controller, type) or not issubclass(
        controller, GateBudget
    ):
        raise ValueError(
            "Argument `controller` must be l0keras.GateBudget or a subclass. "
            f"Received: controller={controller!r}"
        )
    if target is None and controller is not GateBudget:
        raise ValueError(
            "Argument `controller` must be l0keras.GateBudget without a "
            f"`target`. Received: controller={controller!r}"
        )


def _features(ties):
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


def _is_free(node, ties, recurrent):
    """Whether gates inside of a recurrent layer let its units be cut.

    They do not where units have to stay, or where channels that others make
    are added to them: these get gates from outside.
    """
    return any(
        not group.fixed and recurrent.issuperset(group.makers)
        for group in ties.groups_at(node.output)
    )


def _of_ungiven(names):
    if not names:
        return ""
    return f": with a target, {names} get none, other than with a price"


class _Sparsifier(Builder):
    """Builds the copy, with gates where channels are read."""

    def __init__(self, ties, gates, gated_layers, cost):
        super().__init__(ties.graph)
        self.ties = ties
        # Arguments of gates, by the id of a group and by the name of a layer.
        self.gates = gates
        self.gated_layers = gated_layers
        self.cost = cost
        self.costs = ties.costs(cost)
        # Groups whose gates several layers have inside, by these' names, and
        # the arguments of the gates by the id of a group.
        self.tied = {}
        self.tied_gates = {}
        # Flat inputs with gates, by the value's id: its name and itself.
        self.features = {}
        self.generated = None
        # Layers that have gates inside with a price only.
        self.ungiven = []
        self.gate_names = {}
        self._nodes = {node.name: node for node in self.graph.nodes}
        self.vectors = {}
        # Vectors of gates of heads, by the names of layers.
        self.heads = {}
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
            chooser: the `_Chooser` of the gates' arguments.
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
        elif node.name in self.gate_names:
            gates = self._head_gates(node.name, layer)
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
        """A tensor as layers read it that make other channels of it."""
        if id(value) in self.features:
            gate = HardConcreteGate(
                dtype=tensor.dtype, **self._given_arguments(id(value))
            )
            return self.own(gate)(tensor, **self._call_arguments(id(value)))
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
