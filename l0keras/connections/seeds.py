"""Seeds of random numbers that depend on the step alone."""

import random

import keras
from keras import ops


def draw_seed():
    """A seed from Python's generator, the source of Keras's own seeds."""
    return random.randint(1, 10**9)


class StepSeed(keras.random.SeedGenerator):
    """A seed that is a function of two numbers.

    Draws from it need no state: steps that are repeated from a checkpoint,
    and all replicas of a `tf.distribute` strategy, draw the same numbers.

    Args:
        stream: an integer or an int32 tensor, another one for each draw of
            a step.
        step: the number of the step, an integer or an int32 tensor.
    """

    def __init__(self, stream, step):
        # Not the parent's, which makes a variable for its state.
        self._parts = (stream, step)

    def next(self, ordered=True):
        seed = ops.stack([ops.cast(part, "int32") for part in self._parts])
        return ops.cast(seed, _seed_dtype())


def _seed_dtype():
    return "uint32" if keras.backend.backend() == "jax" else "int32"
