"""Where the connections of a sparse array lie: drawing, proposing, signs.

A position is the index of an entry of a flattened array, an int32: JAX has no
larger integers unless it is told to.
"""

import random

import keras
import numpy as np
from keras import ops

# Positions are int32, and so is one beyond the last.
MOST_POSITIONS = 2**31 - 2


def draw_positions(size, count, rng):
    """Distinct positions, every set of them as likely as any other.

    Time and memory are those of `count` numbers, not of `size`.

    Args:
        size: how many positions there are.
        count: how many to draw, at most `size`.
        rng: a `numpy.random.Generator`.

    Returns:
        A sorted int32 array `(count,)`.
    """
    if count > size // 2:
        return np.sort(rng.permutation(size)[:count]).astype("int32")
    drawn = np.empty(0, "int32")
    while len(drawn) < count:
        # At most every other one is taken already.
        block = rng.integers(0, size, 2 * (count - len(drawn)) + 8, "int32")
        drawn = np.concatenate([drawn, block])
        # Of equal ones the first, and all in the order of the draws: cutting
        # sorted ones would favour small positions.
        _, first = np.unique(drawn, return_index=True)
        drawn = drawn[np.sort(first)][:count]
    return np.sort(drawn)


def draw_seed():
    """A seed from Python's generator, which Keras draws its own from."""
    return random.randint(1, 10**9)


def signs_at(positions, key):
    """A random but fixed sign for each position.

    A function of position and key, so that a connection comes back with its
    sign although nobody has stored it.

    Args:
        positions: an int32 tensor.
        key: an integer, or an int32 tensor that broadcasts.

    Returns:
        An int32 tensor of -1 and 1 of the shape of `positions`.
    """
    # Two rounds of multiply and shift; products wrap around.
    x = ops.bitwise_xor(positions, ops.cast(key, "int32"))
    for factor in (0x045D9F3B, 0x119DE1F3):
        x = ops.bitwise_xor(x, ops.right_shift(x, 16)) * factor
    return 1 - 2 * ops.bitwise_and(ops.right_shift(x, 16), 1)


class StepSeed(keras.random.SeedGenerator):
    """A seed that is a function of a few numbers, tensors among them.

    Draws from it need no state: steps that are repeated from a checkpoint,
    and all replicas of a `tf.distribute` strategy, draw the same numbers.

    Args:
        stream: what tells apart the draws of one step.
        step: the number of the step.
    """

    def __init__(self, stream, step):
        # Without the state that a seed generator has.
        self._parts = (stream, step)

    def next(self, ordered=True):
        seed = ops.stack([ops.cast(part, "int32") for part in self._parts])
        return ops.cast(seed, _seed_dtype())


def _seed_dtype():
    return "uint32" if keras.backend.backend() == "jax" else "int32"


def gather(values, indices):
    """`values[indices]` for indices that are known to be in range."""
    if keras.backend.backend() == "tensorflow":
        # What `ops.take` does for negative indices costs more than this.
        import tensorflow as tf

        return tf.gather(values, indices)
    return ops.take(values, indices, axis=0)


def scatter(indices, values, size):
    """Values at distinct indices, 0 elsewhere, of shape `(size,)`."""
    return ops.scatter(ops.expand_dims(indices, 1), values, (size,))


def sorted_order(positions, changed):
    """The order in which positions ascend, where most of them do already.

    Args:
        positions: int32 `(slots,)`, distinct.
        changed: bool `(slots,)`. Those that have not changed ascend.

    Returns:
        Integers `(slots,)`: `positions[order]` is sorted.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.argsort(positions)
    import tensorflow as tf

    # A merge of the few changed ones into the others: sorting all of them
    # would take longer than the rest of a training step.
    kept = tf.where(~changed)[:, 0]
    new = tf.where(changed)[:, 0]
    new = tf.gather(new, tf.argsort(tf.gather(positions, new)))
    place = tf.searchsorted(
        tf.gather(positions, kept), tf.gather(positions, new), out_type=tf.int64
    )
    place += tf.range(tf.size(place, tf.int64))
    shape = tf.constant([positions.shape[0]], tf.int64)
    free = tf.scatter_nd(place[:, None], tf.ones_like(place), shape)
    places = tf.concat([tf.where(tf.equal(free, 0))[:, 0], place], 0)
    return tf.scatter_nd(places[:, None], tf.concat([kept, new], 0), shape)
