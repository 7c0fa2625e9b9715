import functools
import inspect

import keras
import numpy as np
import pytest

from l0keras import activations

# Without `threshold`, which has arguments of its own.
FUNCTIONS = {
    name: function
    for name, function in vars(keras.activations).items()
    if inspect.isfunction(function)
    and name not in ("deserialize", "get", "serialize", "threshold")
}
X = np.random.default_rng(0).normal(0, 3, (64, 6)).astype("float32")


def of(function, x):
    return keras.ops.convert_to_numpy(function(keras.ops.array(x)))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_tables_say_what_the_functions_do(name):
    function = FUNCTIONS[name]
    outputs = of(function, X)
    # All but one unit change.
    others = np.roll(X, 1, axis=0)
    others[:, 2] = X[:, 2]
    same = np.allclose(of(function, others)[:, 2], outputs[:, 2], atol=1e-6)
    assert activations.is_elementwise(function) == same
    homogeneous = all(
        np.allclose(of(function, z * X), z * outputs, atol=1e-5)
        for z in (0.0, 0.3, 2.0)
    )
    assert activations.is_homogeneous(function) == homogeneous


def swish(x):
    return x * keras.ops.sigmoid(1.5 * x)


def test_own_functions_are_traced():
    gelu = functools.partial(keras.activations.gelu, approximate=False)
    for own in (
        swish,
        gelu,
        lambda x: x,
        lambda x: keras.ops.where(x > 0, x, 0),
    ):
        assert activations.is_elementwise(own)
    weights = keras.Variable(np.ones(3))
    for own in (
        lambda x: x - keras.ops.max(x, axis=-1, keepdims=True),
        lambda x: x * weights,
        lambda x: x * np.arange(3.0),
        lambda x: keras.ops.flip(x, axis=-1),
        lambda x: keras.ops.cumsum(x, axis=-1),
        lambda x: np.tanh(keras.ops.convert_to_numpy(x)),
        lambda x: x[..., :1],
        keras.layers.Dropout(0.5),
        3,
    ):
        assert not activations.is_elementwise(own)
    # None is Keras's linear activation.
    assert activations.is_elementwise(None)
    assert activations.is_homogeneous(None)
    assert not activations.is_homogeneous(lambda x: x)


def test_what_is_not_known_stays_so():
    given = np.array([-1.0, np.nan, 2.0])
    got = activations.apply(keras.activations.relu, given)
    np.testing.assert_array_equal(got, [0.0, np.nan, 2.0])
    large = activations.apply(keras.activations.exponential, np.array([1e3]))
    assert np.isnan(large).all()
