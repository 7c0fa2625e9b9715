"""Training steps of networks, timed against each other."""

import functools

import keras
import numpy as np
import tensorflow as tf

from l0keras import models
from trainers.timing import interleave
from trainers.timing import summarize

# One price for all; what it is makes no difference to the time of a step.
L0 = 0.1 / 60_000


def _gates(build):
    """A network against itself with its paper's gates."""
    return {
        "plain": functools.partial(build, seed=0),
        "gated": functools.partial(build, gates="paper", l0=L0, seed=0),
    }


def _dependence(build):
    """Gates that depend on each other against gates that do not."""
    gated = functools.partial(build, gates="paper", l0=1e-6, seed=0)
    return {
        "independent": gated,
        "forward": functools.partial(gated, dependence="forward"),
        "backward": functools.partial(gated, dependence="backward"),
        "plain": functools.partial(build, seed=0),
    }


# What is timed against what, the one to compare with first: functions without
# arguments that build networks.
STEPS = {
    "lenet5": _gates(models.lenet5),
    "mlp": _gates(models.mlp),
    "resnet56": _dependence(models.resnet),
}


def training_steps(model, batch_size, steps_per_execution):
    """A function that runs a model's training step several times.

    Args:
        model: a built `keras.Model` that gives logits; it gets compiled.
        batch_size: examples in a step.
        steps_per_execution: steps in one call of the function.

    Returns:
        A function without arguments. It returns when all steps are done.
    """
    rng = np.random.default_rng(0)
    images = rng.random((batch_size, *model.input_shape[1:]), "float32")
    labels = rng.integers(0, model.output_shape[-1], batch_size)
    # The same batch always: it stays where the steps need it.
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    model.compile(
        keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.999),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    model.make_train_function()

    def run():
        # Reading a number waits for the device.
        float(model.train_function(batches)["loss"])

    return run


def benchmark_training(name, batch_size, steps_per_execution, rounds):
    """Times training steps of networks against each other.

    All have the same optimizer (Adam with averaged weights) and metrics.

    Args:
        name: one of `STEPS`.
        batch_size: examples in a step.
        steps_per_execution: steps in one call of the training function.
        rounds: how often each is timed.

    Returns:
        What `summarize` returns, for each network.
    """
    candidates = {
        kind: training_steps(build(), batch_size, steps_per_execution)
        for kind, build in STEPS[name].items()
    }
    return summarize(interleave(candidates, rounds), steps_per_execution)
