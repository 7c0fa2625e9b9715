"""What the tests of DEEP R share."""

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()


def compiled(function):
    """Not operation by operation, each of which JAX compiles every time."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    return function


def kernel(
    shape, path="layer", seed=0, name="kernel", values=None, dtype="float32"
):
    """A trainable variable `path/name` of normal values."""
    if values is None:
        values = np.random.default_rng(seed).normal(size=shape)
    with keras.name_scope(path):
        values = np.asarray(values, "float32")
        return keras.Variable(values, dtype=dtype, name=name)


def gradients(variables, step):
    """Some normal gradients."""
    rng = np.random.default_rng([7, step])
    return [
        ops.convert_to_tensor(rng.normal(size=v.shape), v.dtype)
        for v in variables
    ]


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def network(seed=0):
    """Two kernels to be sparse, and biases that are not."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(16, "relu", name="first"),
            keras.layers.Dense(6, name="second"),
        ],
        name="net",
    )


def data(steps, batch=8):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch * steps, 20)).astype("float32")
    return x, rng.normal(size=(batch * steps, 6)).astype("float32")


def train(model, x, y, **kwargs):
    kwargs = {"batch_size": 8, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, y, **kwargs)


def assert_same(model, other):
    """The same weights and the same state of the optimizer, bit for bit."""
    for a, b in zip(
        [*model.weights, *model.optimizer.variables],
        [*other.weights, *other.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(array(a), array(b))


def chi_square(counts, expected):
    """In standard deviations above what it is on average."""
    statistic = np.sum((counts - expected) ** 2 / expected)
    freedom = len(counts) - 1
    return (statistic - freedom) / np.sqrt(2 * freedom)


def two_replicas():
    """A `MirroredStrategy` over the two logical CPUs of conftest.py."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        # Collective ops take what strategies of other tests left behind in
        # this process for their own.
        tf.distribute.ReductionToOneDevice(),
    )
