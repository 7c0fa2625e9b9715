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


def test_an_unknown_function_mixes_units():
    assert not activations.is_elementwise(lambda x: x)
    assert not activations.is_homogeneous(lambda x: x)
    # None is Keras's linear activation.
    assert activations.is_elementwise(None)
    assert activations.is_homogeneous(None)


def test_what_is_not_known_stays_so():
    given = np.array([-1.0, np.nan, 2.0])
    got = activations.apply(keras.activations.relu, given)
    np.testing.assert_array_equal(got, [0.0, np.nan, 2.0])
    large = activations.apply(keras.activations.exponential, np.array([1e3]))
    assert np.isnan(large).all()
