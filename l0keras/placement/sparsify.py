import logging

import keras

from l0keras.gates import GateBudget
from l0keras.gates import check_steps
from l0keras.gates import open_gates
from l0keras.graph.groups import Ties
from l0keras.graph.lora import has_lora
from l0keras.graph.rules import BARRIER
from l0keras.placement.budgets import absolute_targets
from l0keras.placement.choose import COMMON
from l0keras.placement.choose import GATE_ARGUMENTS
from l0keras.placement.choose import Chooser
from l0keras.placement.choose import reason_for_none
from l0keras.placement.coverage import warn_of_ungated
from l0keras.placement.gated_inside import is_recurrent
from l0keras.placement.gated_inside import takes_gates
from l0keras.placement.generated_gates import check_arguments
from l0keras.placement.sparsifier import Sparsifier
from l0keras.placement.target_sparsifier import TargetSparsifier
from l0keras.placement.target_sparsifier import flat_inputs
from l0keras.proof import verify
from l0keras.targets import Target
from l0keras.targets import as_targets

_log = logging.getLogger(__name__)


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
    allowed = set(GATE_ARGUMENTS)
    if generated:
        # The gates have no variables that could be limited.
        allowed.remove("log_alpha_limit")
    together = penalty != "separate" or bool(targets)
    by_rule = allowed - set(COMMON if together else ())
    chooser = Chooser(arguments, rules, allowed, by_rule)
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
    features = flat_inputs(ties) if targets else {}
    chooser.check([*makers, *inside, *features])
    gated_layers = {name: chooser.choice([name]) for name in inside}
    left_out = [name for name in inside if gated_layers[name] is None]
    gates = {}
    for group in ties.groups:
        reason = reason_for_none(group)
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
    make = TargetSparsifier if targets else Sparsifier
    sparsifier = make(ties, gates, gated_layers, cost)
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


def _is_free(node, ties, recurrent):
    """Whether gates inside of a recurrent layer let its units be cut.

    They do not where units have to stay, or where channels that others make
    are added to them: these get gates from outside.
    """
    return any(
        not group.fixed and recurrent.issuperset(group.makers)
        for group in ties.groups_at(node.output)
    )
