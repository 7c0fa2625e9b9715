import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from l0keras.regularizers import L0
from tests.testing import gradient
from tests.testing import sigmoid

SHIFT = 2 / 3 * np.log(11)


def prob(log_alpha):
    return sigmoid(np.asarray(log_alpha) + SHIFT)


def test_counts_expected_weights():
    penalty = L0(l0=0.1 / 60_000, group_size=500)
    value = float(penalty(ops.zeros((50,))))
    assert value == pytest.approx(50 * 500 * 0.8318 * 0.1 / 60_000, rel=1e-4)


def test_group_sizes_of_their_own():
    log_alpha = np.array([[-1.0, 0.0], [2.0, 5.0]], "float32")
    sizes = [[1, 10], [100, 1000]]
    expected = 0.5 * np.sum(prob(log_alpha) * np.array(sizes))
    for group_size in (sizes, np.array(sizes), np.array(sizes, "float32")):
        value = float(L0(0.5, group_size=group_size)(log_alpha))
        assert value == pytest.approx(expected, rel=1e-5)


@given(
    log_alpha=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=6),
    size=st.integers(0, 10_000),
)
def test_gradient_is_size_times_p_times_one_minus_p(log_alpha, size):
    slope = gradient(L0(l0=0.25, group_size=size), log_alpha)
    p = prob(log_alpha)
    np.testing.assert_allclose(
        slope, 0.25 * size * p * (1 - p), rtol=1e-3, atol=1e-6 * max(size, 1)
    )


def test_coupled_l2_is_weighted_by_the_open_probability():
    rng = np.random.default_rng(0)
    log_alpha = rng.normal(size=4).astype("float32")
    weights = rng.normal(size=(4, 3)).astype("float32")
    bias = rng.normal(size=3).astype("float32")
    penalty = L0(l0=0.1, l2=0.3, group_size=3)
    uncoupled = float(penalty(log_alpha))
    penalty.couple(
        lambda: ops.sum(ops.square(weights), axis=1),
        lambda: ops.sum(ops.square(bias)),
    )
    expected = 0.0
    for gate in range(4):
        for weight in weights[gate]:
            expected += prob(log_alpha[gate]) * (0.1 + 0.5 * 0.3 * weight**2)
    assert uncoupled == pytest.approx(0.1 * 3 * prob(log_alpha).sum())
    expected += 0.5 * 0.3 * np.sum(bias**2)
    assert float(penalty(log_alpha)) == pytest.approx(expected, rel=1e-5)


def test_constants_count():
    log_alpha = np.array([0.3], "float32")
    value = float(L0(1.0, temperature=0.5, gamma=-0.2, zeta=1.3)(log_alpha))
    expected = sigmoid(0.3 - 0.5 * np.log(0.2 / 1.3))
    assert value == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("group_size", [7, [1, 2, 3]])
def test_config_round_trip(group_size):
    penalty = L0(0.1, 0.2, group_size, temperature=0.5, gamma=-0.2, zeta=1.3)
    config = keras.regularizers.serialize(penalty)
    again = keras.regularizers.deserialize(config)
    assert isinstance(again, L0)
    assert again.get_config() == penalty.get_config()
    log_alpha = np.array([-1.0, 0.0, 1.0], "float32")
    assert float(again(log_alpha)) == float(penalty(log_alpha))


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"l0": -0.1}, "l0"),
        ({"l0": float("nan")}, "l0"),
        ({"l2": -1}, "l2"),
        ({"group_size": -1}, "group_size"),
        ({"group_size": [1, -2]}, "group_size"),
        ({"temperature": -1.0}, "temperature"),
        ({"gamma": 0.1}, "gamma"),
        ({"zeta": 0.9}, "zeta"),
    ],
)
def test_refuses_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=rf"`{name}`.*Received: {name}="):
        L0(**arguments)


def test_shows_up_as_a_regularizer_of_any_variable():
    layer = keras.layers.Layer()
    layer.add_weight(
        shape=(3,), initializer="zeros", regularizer=L0(1.0, group_size=2)
    )
    (loss,) = layer.losses
    assert float(loss) == pytest.approx(6 * float(prob(0.0)), rel=1e-5)
