import logging
import warnings

import numpy as np

from l0keras.graph.trace import trace
from l0keras.proof.first_difference import first_difference
from l0keras.proof.inputs import Inputs
from l0keras.proof.outputs import difference
from l0keras.proof.outputs import precision
from l0keras.proof.outputs import random_outputs
from l0keras.proof.outputs import rounding
from l0keras.proof.outputs import run
from l0keras.proof.outputs import untouched

_log = logging.getLogger(__name__)
_EXAMPLES_TO_SEARCH = 8


def verify(model, result, name):
    """Raises if a model does not compute what it was made from.

    Both are called once on random inputs. Their variables, seed generators
    and metrics are as before afterwards.

    An output may differ by 1e-5 of its largest absolute value (1e-2 where
    layers compute in float16, 8e-2 in bfloat16), or by ten times as much as
    the outputs of `model` change with its inputs and weights by a rounding.
    Entries that are not finite in `model` are not compared, nor are random
    outputs that differ; the log names these. If no random inputs can be
    found that `model` takes, nothing is compared and the log says why.

    Args:
        model: a built `keras.Model`.
        result: a model with the same inputs, whose outputs should be equal.
        name: the function that made it, for messages.

    Warns:
        UserWarning: a mask rides on an output of one of them alone.

    Raises:
        RuntimeError: outputs differ. The message names the first layer that
            does.
    """
    with untouched(model, result):
        inputs = Inputs(trace(model, baked=False))
        found, reason = _accepted(model, inputs)
        if found is None:
            _log.warning(
                "The result of `%s` was not compared with model '%s', which "
                "could not be called on random inputs: %s",
                name,
                model.name,
                reason,
            )
            return
        arguments, expected = found
        arrays = inputs.draw(**arguments)
        try:
            got = run(result, arrays)
        except Exception as error:
            raise RuntimeError(
                f"`{name}` made a model that cannot be called on inputs that "
                f"model '{model.name}' takes: {error}\nArgument `check=False` "
                "returns it all the same."
            ) from error
        wrong = _wrong(model, result, inputs, arrays, expected, got, name)
        if not wrong:
            _warn_of_masks(model, expected, got, name)
            return
        arguments = {**arguments, "examples": _EXAMPLES_TO_SEARCH}
        index, share, allowed = wrong
        raise RuntimeError(
            f"`{name}` made a model that differs from model '{model.name}' "
            f"in output {index} by {share:.2g} of its scale, where rounding "
            f"explains {allowed:.2g}. "
            + first_difference(model, result, inputs.draw(**arguments))
            + " Argument `check=False` returns the model all the same."
        )


def _accepted(model, inputs):
    """Arguments for `inputs.draw` that a model takes, and its outputs.

    Returns:
        A pair: of these two, or `None`, and the reason for it.
    """
    reason, second_best = "it gives no outputs", None
    for safe, positive in ((False, False), (True, False), (False, True)):
        for size in inputs.sizes:
            arguments = {"size": size, "safe": safe, "positive": positive}
            try:
                outputs = run(model, inputs.draw(**arguments))
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            if any(_says_something(array) for array in outputs):
                return (arguments, outputs), None
            second_best = second_best or (arguments, outputs)
    return second_best, reason


def _says_something(array):
    if array.dtype.kind == "f":
        return np.any(np.isfinite(array))
    return array.size > 0


def _wrong(model, result, inputs, arrays, expected, got, name):
    """The output that differs most: its index, by how much, what may be."""
    if len(got) != len(expected):
        return min(len(got), len(expected)), np.inf, 0.0
    tolerance, eps = precision(model, result)
    shares = [difference(a, b) for a, b in zip(expected, got)]
    suspects = [
        index
        for index, share in enumerate(shares)
        if not share <= (tolerance if expected[index].dtype.kind == "f" else 0)
    ]
    if not suspects:
        _log_not_finite(model, expected, name)
        return None
    allowed = rounding(model, arrays, expected, eps, inputs.masked)
    suspects = [i for i in suspects if not shares[i] <= allowed[i]]
    if not suspects:
        return None
    allowed = [max(tolerance, share) for share in allowed]
    random = random_outputs(model, arrays, expected, allowed)
    for index in suspects:
        if random[index]:
            _log.warning(
                "Output %d of model '%s' is random at test time; `%s` did "
                "not compare it.",
                index,
                model.name,
                name,
            )
    suspects = [index for index in suspects if not random[index]]
    if not suspects:
        return None
    index = max(suspects, key=lambda i: shares[i])
    return index, shares[index], allowed[index]


def _warn_of_masks(model, expected, got, name):
    for index, pair in enumerate(zip(expected.masked, got.masked)):
        if pair[0] != pair[1]:
            had, has = ("a mask" if masked else "no mask" for masked in pair)
            warnings.warn(
                f"Output {index} of model '{model.name}' carries {had}, and "
                f"that of the model which `{name}` made {has}. By it Keras "
                "leaves positions out of the loss, as by a `sample_weight`.",
                stacklevel=4,
            )


def _log_not_finite(model, expected, name):
    for index, array in enumerate(expected):
        if not _says_something(array):
            _log.warning(
                "Output %d of model '%s' has no finite number for random "
                "inputs; `%s` did not compare it.",
                index,
                model.name,
                name,
            )
