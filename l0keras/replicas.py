"""What the core needs to know about functions and replicas of TensorFlow."""

import contextlib

import keras


def outside_of_functions():
    """A context in which operations run at once, also while one traces."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.init_scope()


def replica_id():
    """The position of the running replica in its group, or 0 outside one."""
    if keras.backend.backend() != "tensorflow":
        return 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    # There is none in a strategy's scope outside of its steps.
    if context is None or not tf.distribute.has_strategy():
        return 0
    return context.replica_id_in_sync_group


def num_replicas():
    """How many replicas make a step together, 1 outside of a strategy."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


@keras.saving.register_keras_serializable("l0keras")
class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """A seed generator that gives every replica seeds of its own.

    `keras.random.SeedGenerator` keeps a mirrored state, so all replicas of a
    `tf.distribute` strategy draw the same numbers from it. This one keeps
    the same mirrored state, and with it saving and resuming, and folds the
    replica's number into each seed it hands out. Without a strategy it gives
    exactly what the plain generator gives.

    Args:
        seed: an integer, or `None` to draw one.
        name: a string, or `None`.
    """

    # Odd and large, so that the seeds of different replicas do not meet.
    _STRIDE = 1_000_003

    def next(self, ordered=True):
        seed = super().next(ordered=ordered)
        replica = replica_id()
        if isinstance(replica, int) and replica == 0:
            return seed
        offset = keras.ops.cast(replica * self._STRIDE, seed.dtype)
        return seed + keras.ops.stack([offset, offset * 0])
