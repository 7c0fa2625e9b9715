import contextlib
import logging

import keras
import numpy as np

from l0keras.compile_settings import CompileSettings
from l0keras.gates import gates_of
from l0keras.proof import verify
from l0keras.shrinking.close_gates import close
from l0keras.shrinking.close_gates import left_gates
from l0keras.shrinking.optimizer_state import check_optimizer
from l0keras.shrinking.optimizer_state import copy_exclusions
from l0keras.shrinking.optimizer_state import take_over_state
from l0keras.shrinking.plan import plan
from l0keras.shrinking.rebuild import Shrinker
from l0keras.shrinking.rebuild import cuts_anything
from l0keras.shrinking.rebuild import part_of

_log = logging.getLogger(__name__)


def shrink(
    model: keras.Model,
    *,
    min_units: int = 1,
    round_to: int | None = None,
    check: bool = True,
) -> keras.Model:
    """Cuts a model in the middle of its training; it trains on.

    What is behind gates that are closed for good (see `l0keras.close_gates`),
    and units whose weights the optimizer leaves at 0 (`HSPG` in its second
    stage, `ProximalSGD` after `keep_at`, `HoldZeros`), leave the model, and
    the training goes on as it would have. Each variable of the result is a
    part of one of `model`, and each variable of its optimizer (momenta,
    averages, gradients added up, ...) the same part. All else is taken over:
    iterations and learning rates, the loss scale, the state of random
    generators and of `GateBudget`, moving statistics.

    Only what adds exactly nothing in training is cut: channels that carry a
    constant other than 0 stay, and so does what reads them. Gate layers keep
    the noise, the prices and the `log_alpha` of all gates that there were at
    first, so the gates that are left get the same noise, and costs stay
    relative to the first model.

    Three things are not the same as with the closed units in place: dropout
    and other noise is drawn for the units that are left; regularizers of
    layers and weight decay no longer see the weights that are gone, so they
    are missing in the loss, in norms of gradients that are clipped and in those
    of groups of weights; and
    optimizers that take a variable as a whole, such as `Lamb` and `Muon`, see
    what is left of it.

    Args:
        model: a built `keras.Model` with gates, or compiled with such an
            optimizer. It is not changed.
        min_units: as in `l0keras.strip`.
        round_to: as in `l0keras.strip`: closed units stay so that widths are
            multiples of it.
        check: whether to compare the result with `model` on random inputs
            before it is returned.

    Returns:
        A functional `keras.Model`, compiled as `model` is, whose layers and
        variables have the names and paths of the originals. `model` itself
        where nothing can be cut.

    Raises:
        ValueError: `model` is no Keras model, not built, or has a `call` that
            cannot be opened; `min_units` or `round_to` is below 1.
        NotImplementedError: a variable of the optimizer is neither a number
            nor of the shape of the variable that it is about, such as the
            factors of `Adafactor`; its name is in the message.
        RuntimeError: the result differs from `model` by more than rounding
            explains.

    Example:

    >>> for epoch in range(20):
    ...     gated.fit(images, labels, initial_epoch=epoch, epochs=epoch + 1)
    ...     l0keras.close_gates(gated)
    ...     gated = l0keras.shrink(gated)
    """
    return shrink_parts(model, min_units, round_to, check)[0]


def shrink_parts(model, min_units=1, round_to=None, check=True, zeros=None):
    """As `shrink`; returns the model and its `Shrinker.origins`.

    Args:
        model, min_units, round_to, check: as in `shrink`.
        zeros: as in `plan`.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and optimizer.built:
        check_optimizer(optimizer)
    graph, parts = plan(model, min_units, round_to, zeros)
    for node in graph.nodes:
        for reason in node.explanations:
            _log.info("Layer '%s': %s.", node.name, reason)
    if not cuts_anything(graph, parts):
        return model, {
            id(variable): (variable, None) for variable in model.variables
        }
    left = left_gates(model, graph, parts)
    shrinker = Shrinker(graph, parts)
    with _scope(model):
        smaller = shrinker.model()
        if model.compiled:
            _compile(smaller, model, shrinker.origins)
        _close_others(smaller, model, left, shrinker)
    if check:
        verify(model, smaller, "shrink")
    return smaller, shrinker.origins


def _scope(model):
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None or keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    return strategy.scope()


def _compile(smaller, model, origins):
    nothing = np.zeros(0, int)
    parts = {
        variable.path: (tuple(variable.shape), nothing)
        for variable in model.trainable_variables
    }
    for variable in smaller.trainable_variables:
        original, index = origins[id(variable)]
        parts[original.path] = tuple(original.shape), index
    CompileSettings(model).compile(smaller, parts=parts)
    old, new = model.optimizer, smaller.optimizer
    if not old.built:
        return
    new.build(smaller.trainable_variables)
    take_over_state(new, old, origins)
    copy_exclusions(new, old, origins)
    # Some optimizers change weights when they are built.
    for variable in smaller.trainable_variables:
        variable.assign(part_of(*origins[id(variable)]))


def _close_others(smaller, model, left, shrinker):
    """Closes the gates of units that are gone because nobody reads them."""
    gates, masks = [], []
    copies = {
        id(shrinker.origins[id(gate.log_alpha)][0]): gate
        for gate in gates_of(smaller)
        if gate.log_alpha is not None
    }
    for gate, mask in zip(gates_of(model), left, strict=True):
        if gate.log_alpha is not None:
            copy = copies.get(id(gate.log_alpha))
            if copy is not None:
                gates.append(copy)
                masks.append(~mask)
        else:
            generator, index = gate.generated_by()
            if shrinker.copier.knows(generator):
                shrinker.copier.layer(generator).close(index, ~mask)
    close(smaller, gates, masks)
