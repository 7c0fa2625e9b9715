"""Training steps of networks, timed against each other."""

import functools

import keras
import numpy as np
import tensorflow as tf

from l0keras import layers
from l0keras import models
from l0keras.callbacks import RewireStorage
from l0keras.optimizers import DeepR
from trainers.benchmarks.measure import interleave
from trainers.benchmarks.measure import summarize
from trainers.benchmarks.torch_steps import torch_steps

# One price for all: its value makes no difference to the time of a step.
L0 = 0.1 / 60_000


def _averaged_adam():
    return keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.999)


def _sgd():
    return keras.optimizers.SGD(0.05)


def _gates(build):
    """A network against itself with its paper's gates."""
    builds = {
        "plain": functools.partial(build, seed=0),
        "gated": functools.partial(build, gates="paper", l0=L0, seed=0),
    }
    return {kind: (build, _averaged_adam) for kind, build in builds.items()}


def _gated(build):
    """A network with its paper's gates alone."""
    return {"gated": _gates(build)["gated"]}


def _dependence(build):
    """Gates that depend on each other against gates that do not."""
    gated = functools.partial(build, gates="paper", l0=1e-6, seed=0)
    builds = {
        "independent": gated,
        "forward": functools.partial(gated, dependence="forward"),
        "backward": functools.partial(gated, dependence="backward"),
        "plain": functools.partial(build, seed=0),
    }
    return {kind: (build, _averaged_adam) for kind, build in builds.items()}


def _connections(build):
    """A network's optimizer against itself inside DEEP R."""
    build = functools.partial(build, seed=0)
    return {
        "sgd": (build, _sgd),
        "deep_r": (build, lambda: DeepR(_sgd(), 0.01, seed=0)),
        "deep_r_global": (
            build,
            lambda: DeepR(_sgd(), 0.01, budget="global", seed=0),
        ),
    }


def _one_layer(layer):
    return keras.Sequential([keras.Input((8192,)), layer])


def _storage(make_optimizer):
    """A layer of 8,192 x 8,192 against one with 1 % of its connections."""

    def sparse():
        return _one_layer(layers.SparseDense(8192, 0.01, seed=0))

    return {
        "dense": (lambda: _one_layer(keras.layers.Dense(8192)), make_optimizer),
        "sparse": (sparse, make_optimizer),
        "sparse_deep_r": (sparse, lambda: DeepR(make_optimizer(), seed=0)),
    }


# Candidates by name, the first the one that the others are compared with: pairs
# of functions without arguments that build a network and make its optimizer.
STEPS = {
    "lenet5": _gates(models.lenet5),
    "mlp": _gates(models.mlp),
    "resnet56": _dependence(models.resnet),
    "lenet5_torch": _gated(models.lenet5),
    "mlp_torch": _gated(models.mlp),
    "deep_r": _connections(models.mlp),
    "sparse_dense": _storage(_sgd),
    "sparse_dense_adam": _storage(keras.optimizers.Adam),
}
# Those that PyTorch's step of the same network is compared with.
TORCH = {"lenet5_torch": "lenet5", "mlp_torch": "mlp"}


def training_steps(model, optimizer, batch_size, steps_per_execution):
    """A function that runs a model's training step several times.

    Args:
        model: a built `keras.Model` that gives logits; it gets compiled.
        optimizer: a `keras.optimizers.Optimizer`.
        batch_size: examples in a step.
        steps_per_execution: steps in one call of the function.

    Returns:
        A function without arguments. It returns when all steps are done.
    """
    rng = np.random.default_rng(0)
    images = rng.random((batch_size, *model.input_shape[1:]), "float32")
    labels = rng.integers(0, model.output_shape[-1], batch_size)
    if keras.backend.backend() == "jax":
        return _fits(model, optimizer, images, labels, steps_per_execution)
    # The same batch always: it stays where the steps need it.
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    model.compile(
        optimizer,
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


def _fits(model, optimizer, images, labels, steps):
    """`training_steps` by `fit`: on JAX only it knows all of a step."""
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batch_size = len(images)
    images = np.concatenate([images] * steps)
    labels = np.concatenate([labels] * steps)
    callbacks = []
    if isinstance(optimizer, DeepR):
        callbacks = [RewireStorage()]

    def run():
        model.fit(
            images,
            labels,
            batch_size=batch_size,
            shuffle=False,
            callbacks=callbacks,
            verbose=0,
        )

    return run


def benchmark_training(
    name, batch_size, steps_per_execution, rounds, num_threads=None
):
    """Times training steps of networks against each other.

    All have the same metrics, and the same optimizer (Adam with averaged
    weights for gates) unless optimizers are compared.

    Args:
        name: one of `STEPS`.
        batch_size: examples in a step.
        steps_per_execution: steps in one call of the training function.
        rounds: the number of times that each is timed.
        num_threads: the number of threads of PyTorch, `None` for its own
            choice; TensorFlow has been told.

    Returns:
        A summary of `summarize`, for each network.
    """
    candidates = {}
    if name in TORCH:
        candidates["torch"] = torch_steps(
            TORCH[name], L0, batch_size, steps_per_execution, num_threads
        )
    candidates |= {
        kind: training_steps(
            build(), make_optimizer(), batch_size, steps_per_execution
        )
        for kind, (build, make_optimizer) in STEPS[name].items()
    }
    return summarize(interleave(candidates, rounds), steps_per_execution)
