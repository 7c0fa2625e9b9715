import contextlib
import logging
import random

import keras

from l0keras.gates import gates_of
from l0keras.proof import verify
from l0keras.stripping.plan import plan
from l0keras.stripping.rebuild import rebuild
from l0keras.stripping.record import write_record

_log = logging.getLogger(__name__)


def strip(
    model: keras.Model,
    *,
    min_units: int = 1,
    round_to: int | None = None,
    check: bool = True,
) -> keras.Model:
    """Cuts from a model all units that closed gates and zeros make idle.

    `strip` bakes gates into the weights, carries constants forwards, finds
    the units that no layer reads, and builds the model anew with smaller
    arrays. The outputs are those of `model` at test time, on any input. The
    zeros may come from anywhere: a plain Keras model that another tool pruned
    is cut in the same way.

    A layer without a rule stays whole, with all channels that it reads.
    `l0keras.report(model, stripped)` names such layers and the reasons.

    Where a layer reads only a part of a tensor that cannot shrink (an input
    of the model, single positions of a flattened feature map), a
    `keras.ops.take` in front of it selects that part. Layers that only act in
    training, such as `Dropout`, stay. LoRA weights are merged into the kernels
    that they adapt. Stateful recurrent layers start from zeros, as those of a
    model that was loaded.

    Args:
        model: a built `keras.Model`, with or
            without gates. It is not changed. Models nested in it become part
            of the result's own graph.
        min_units: an integer, at least 1. A layer that would keep fewer units
            keeps so many; the log and the report say so.
        round_to: an integer, or `None`. Widths are rounded up to multiples of
            it, as far as a layer has so many units; hardware likes 8 or 16.
        check: whether to compare the result with `model` on random inputs
            before it is returned. Random outputs and models that take no
            random inputs are not compared; the log names them.

    Returns:
        A functional `keras.Model`, not compiled, with the inputs of `model`
        and the names, dtype policies and trainable flags of its layers. It
        holds layers and ops of Keras and of the caller, so it loads where
        this library is not installed. (Gated layers inside a wrapper other
        than `TimeDistributed` and `Bidirectional` stay gated; the log warns of
        them.)

    Raises:
        ValueError: `model` is no Keras model, not built, or has a `call` that
            cannot be opened; it has
            weights that are not finite; `min_units` or `round_to` is below 1.
        RuntimeError: the result differs from `model` by more than rounding
            explains; the message names the first layer that differs.

    Example:

    >>> small = l0keras.strip(gated)
    >>> small.save("small.keras")
    """
    # Initializers without a seed draw one from Python's generator.
    with _random_state():
        graph = plan(model, min_units=min_units, round_to=round_to)
        stripped = rebuild(graph)
    write_record(stripped, graph, min_units, round_to)
    for node in graph.nodes:
        for reason in node.explanations:
            if reason.startswith("would lose"):
                _log.warning("Layer '%s' %s.", node.name, reason)
            else:
                _log.info("Layer '%s': %s.", node.name, reason)
    if gates_of(stripped):
        _log.warning(
            "Gates inside wrappers or called in training mode stay: the "
            "result needs l0keras to load."
        )
    if check:
        verify(model, stripped, "strip")
    return stripped


@contextlib.contextmanager
def _random_state():
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
