"""Gates in networks that compute in float64."""

import keras
import numpy as np
import pytest

import l0keras
from l0keras.targets import Target


@pytest.fixture
def float64():
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize(
    "arguments",
    [
        {"l0": 1e-2},
        {"l0": 1e-2, "penalty": "joint"},
        {"target": Target("params", 0.5), "steps": 4},
    ],
    ids=["separate", "joint", "target"],
)
def test_training_and_strip(float64, arguments):
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 8)), rng.random((32, 1))
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    )
    gated = l0keras.sparsify(model, seed=1, **arguments)
    gated.compile("sgd", "mse", run_eagerly=True)
    gated.fit(x, y, verbose=0)
    expected = gated.predict(x, verbose=0)
    assert expected.dtype == "float64"
    found = l0keras.strip(gated).predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
