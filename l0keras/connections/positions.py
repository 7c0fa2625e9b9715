"""Positions of connections: drawing, looking up and ordering them.

A position is the index of an entry of a flattened array, an int32: JAX has no
larger integers by default.
"""

import keras
import numpy as np
from keras import ops

# The number of positions plus 1 still fits into an int32.
MOST_POSITIONS = 2**31 - 2


def draw_positions(size, count, rng):
    """Draws distinct positions; all sets of `count` are equally likely.

    Time and memory grow with `count` and not with `size`.

    Args:
        size: the number of positions.
        count: the number of positions to draw, at most `size`.
        rng: a `numpy.random.Generator`.

    Returns:
        A sorted int32 array `(count,)`.
    """
    if count > size // 2:
        return np.sort(rng.permutation(size)[:count]).astype("int32")
    drawn = np.empty(0, "int32")
    while len(drawn) < count:
        # At most half of all positions are drawn already, so a block twice
        # as large as the rest mostly completes it.
        block = rng.integers(0, size, 2 * (count - len(drawn)) + 8, "int32")
        drawn = np.concatenate([drawn, block])
        # Duplicates go, and the order of the draws stays: a cut of sorted
        # positions would favour small ones.
        _, first = np.unique(drawn, return_index=True)
        drawn = drawn[np.sort(first)][:count]
    return np.sort(drawn)


def signs_at(positions, key):
    """A random but fixed sign for each position.

    The sign is a function of position and key. So a connection comes back
    with its former sign, although no array stores it.

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


def on_host(*tensors):
    """Whether NumPy can compute with tensors: on JAX, if none is traced."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return not any(isinstance(one, jax.core.Tracer) for one in tensors)


def gather(values, indices):
    """`values[indices]` for indices that are in range."""
    if keras.backend.backend() == "tensorflow":
        # `ops.take` also handles negative indices, which takes longer than
        # the gather itself.
        import tensorflow as tf

        return tf.gather(values, indices)
    return ops.take(values, indices, axis=0)


def scatter(indices, values, size):
    """Values at distinct indices, 0 elsewhere, of shape `(size,)`."""
    return ops.scatter(ops.expand_dims(indices, 1), values, (size,))


def sorted_order(positions, changed):
    """The order that sorts positions which are mostly sorted already.

    Args:
        positions: int32 `(slots,)`, distinct.
        changed: bool `(slots,)`. The positions that have not changed ascend.

    Returns:
        Integers `(slots,)`: `positions[order]` is sorted.
    """
    if on_host(positions, changed):
        positions, changed = np.asarray(positions), np.asarray(changed)
        kept, new = np.flatnonzero(~changed), np.flatnonzero(changed)
        new = new[np.argsort(positions[new])]
        place = np.searchsorted(positions[kept], positions[new])
        return ops.convert_to_tensor(np.insert(kept, place, new), "int32")
    if keras.backend.backend() != "tensorflow":
        return ops.argsort(positions)
    import tensorflow as tf

    # Merges the few changed positions into the others: to sort all of them
    # would take longer than the rest of a training step.
    kept = tf.cast(tf.where(~changed)[:, 0], "int32")
    new = tf.cast(tf.where(changed)[:, 0], "int32")
    new = tf.gather(new, tf.argsort(tf.gather(positions, new)))
    place = tf.searchsorted(
        tf.gather(positions, kept), tf.gather(positions, new)
    )
    place += tf.range(tf.size(place))
    is_new = tf.scatter_nd(
        place[:, None], tf.ones_like(place), [positions.shape[0]]
    )
    others = tf.cast(tf.where(tf.equal(is_new, 0))[:, 0], "int32")
    return tf.dynamic_stitch([others, place], [kept, new])
