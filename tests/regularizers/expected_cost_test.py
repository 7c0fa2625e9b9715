import keras
import numpy as np
import pytest

from l0keras import hard_concrete
from l0keras.regularizers import ExpectedCost
from tests.testing import sigmoid


def test_two_convolutions_by_hand():
    terms = [
        (9, [(3, {}), (0, {0: 1})]),
        (25, [(0, {0: 1}), (2, {1: 1})]),
        (4, [(0, {1: 1})]),
        (7, []),
    ]
    penalty = ExpectedCost(terms, [2, 3], l0=0.5)
    log_alphas = [np.float32([-1, 2]), np.float32([0, 0.5, -3])]
    n, m = (sigmoid(a + 2 / 3 * np.log(11)).sum() for a in log_alphas)
    expected = 9 * 3 * n + 25 * n * (m + 2) + 4 * m + 7
    assert float(penalty(log_alphas)) == pytest.approx(0.5 * expected)


def test_monte_carlo():
    """Counts what samples of the gates leave, also of a gate on both axes."""
    rng = np.random.default_rng(0)
    sizes = [[1, 2, 0, 3], [1, 1, 1, 1], 2]
    terms = [
        (3, [(1, {0: sizes[0]}), (2, {0: sizes[1], 1: 1})]),
        (2, [(0, {1: sizes[2]}), (0, {1: 1})]),
    ]
    penalty = ExpectedCost(terms, [4, 3], l0=1.0)
    log_alphas = [rng.normal(size=4), rng.normal(size=3)]
    log_alphas = [log_alpha.astype("float32") for log_alpha in log_alphas]
    draws = 200_000
    z = [
        np.array(hard_concrete.sample(a, seed, (draws, len(a)))) != 0
        for seed, a in enumerate(log_alphas)
    ]
    rows = 1 + z[0] @ sizes[0]
    columns = 2 + z[0].sum(axis=1) + z[1].sum(axis=1)
    second = z[1].sum(axis=1)
    counts = 3 * rows * columns + 2 * 2 * second * second
    error = counts.std() / draws**0.5
    assert abs(float(penalty(log_alphas)) - counts.mean()) < 4 * error
    # The product of the sides alone would be far off.
    p, q = (sigmoid(a + 2 / 3 * np.log(11)) for a in log_alphas)
    product = 3 * (1 + p @ sizes[0]) * (2 + p.sum() + q.sum())
    product += 2 * 2 * q.sum() ** 2
    assert abs(product - counts.mean()) > 20 * error


def test_three_axes():
    terms = [(2, [(0, {0: 1}), (1, {1: 1}), (0, {2: 1})]), (1, [(0, {0: 1})])]
    penalty = ExpectedCost(terms, [2, 2, 2], l0=1.0)
    probs = [np.float32([0.5, 1]), np.float32([0, 0.5]), np.float32([0.25, 1])]
    expected = 2 * 1.5 * 1.5 * 1.25 + 1.5
    assert float(penalty.cost(probs)) == pytest.approx(expected)


def test_config():
    terms = [(9, [(3, {0: [1, 2]}), (1, {1: 1})])]
    penalty = ExpectedCost(terms, [2, 1], 0.1, 0.5, -0.2, 1.3)
    config = keras.saving.serialize_keras_object(penalty)
    again = keras.saving.deserialize_keras_object(config)
    log_alphas = [np.float32([0.3, -1]), np.float32([1])]
    assert float(again(log_alphas)) == float(penalty(log_alphas))
    assert again.get_config() == penalty.get_config()


def test_constants_of_the_hard_concrete():
    penalty = ExpectedCost([(1, [(0, {0: 1})])], [1], 1.0, 0.5, -0.2, 1.3)
    expected = sigmoid(0.7 - 0.5 * np.log(0.2 / 1.3))
    assert float(penalty([np.float32([0.7])])) == pytest.approx(expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"l0": -1.0}, "`l0`.*-1.0"),
        ({"l0": float("nan")}, "`l0`.*nan"),
        ({"zeta": 0.5}, "`zeta`.*0.5"),
        ({"terms": [(1, [(0, {2: 1})])]}, "`terms`.*Received: 2"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExpectedCost(**{"terms": [], "units": [3, 4], **arguments})
