"""The time that a prox of many groups takes."""

import functools

import numpy as np
import tensorflow as tf
from keras import ops

from l0keras.regularizers import WGSEF
from trainers.benchmarks.measure import interleave
from trainers.benchmarks.measure import summarize


def benchmark_prox(groups, rounds):
    """Times the prox of the group envelope against sorting as many numbers.

    In compiled functions, with groups of one weight, normally distributed, and
    a tenth or half of them as k.

    Args:
        groups: how many there are.
        rounds: the number of times that each is timed.

    Returns:
        A summary of `measure.summarize`.

    Raises:
        ValueError: too few groups to compare.
    """
    if groups < 10:
        raise ValueError(
            "Argument `prox` must be at least 10 groups. "
            f"Received: prox={groups}"
        )
    x = tf.constant(np.random.default_rng(0).normal(size=groups), "float32")
    functions = {"sort": ops.sort}
    for k in (groups // 10, groups // 2):
        for mu in (0.001, 0.1):
            name = f"prox, k={k}, mu={mu}"
            functions[name] = functools.partial(WGSEF(k).prox, mu=mu)
    candidates = {
        name: functools.partial(_run, tf.function(function), x)
        for name, function in functions.items()
    }
    return summarize(interleave(candidates, rounds))


def _run(function, x):
    function(x).numpy()
