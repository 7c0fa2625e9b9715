"""Checks the distribution against closed forms and an independent sampler."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from l0keras import hard_concrete
from tests.testing import gradient
from tests.testing import sigmoid

LOG_ALPHA = [-4.6052, -2.3979, -1.5986, 0.0, 0.8473, 1.3863, 2.3979, 3.0]
# Worked out with a sampler of 400,000 draws in another framework; the
# probabilities and the test gates also follow from the paper's equations.
PROB_OPEN = [0.0471, 0.3102, 0.5, 0.8318, 0.9203, 0.9519, 0.9820, 0.99]
PROB_ONE = [0.0021, None, 0.0393, 0.1677, 0.3210, 0.4466, 0.69, 0.8018]
MEAN = [0.0133, None, 0.1942, 0.4999, 0.6779, 0.7734, 0.8972, 0.9397]
TEST_GATE = [0.0, 0.0, 0.1018, 0.5, 0.74, 0.86, 1.0, 1.0]

DRAWS = 200_000
# The chance of any deviation this large in DRAWS draws is below 1e-9
# (Dvoretzky, Kiefer, Wolfowitz; Massart's constant).
DKW = np.sqrt(np.log(2 / 1e-9) / (2 * DRAWS))

floats = st.floats(min_value=-100, max_value=100, width=32)
moderate = st.floats(min_value=-6, max_value=6, width=32)
probabilities = st.floats(min_value=0, max_value=1, width=32)
constants = st.fixed_dictionaries(
    {
        "temperature": st.floats(0.25, 2.0),
        "gamma": st.floats(-1.0, -0.0625),
        "zeta": st.floats(1.0625, 2.0),
    }
)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def draw(log_alpha, **constants):
    return numpy(
        hard_concrete.sample(
            np.full(DRAWS, log_alpha, "float32"),
            keras.random.SeedGenerator(3),
            **constants,
        )
    )


def numpy_draw(log_alpha, temperature=2 / 3, gamma=-0.1, zeta=1.1):
    """The sampler as one would write it from the paper, in float64."""
    u = np.random.default_rng(7).uniform(size=DRAWS)
    s = sigmoid((np.log(u) - np.log1p(-u) + log_alpha) / temperature)
    return np.minimum(1, np.maximum(0, s * (zeta - gamma) + gamma))


def largest_distance(a, b):
    """The Kolmogorov-Smirnov distance of two samples, ties and all."""
    grid = np.unique(np.concatenate([a, b]))
    below_a = np.searchsorted(np.sort(a), grid, side="right") / len(a)
    below_b = np.searchsorted(np.sort(b), grid, side="right") / len(b)
    return np.abs(below_a - below_b).max()


def test_reference_table():
    log_alpha = np.array(LOG_ALPHA, "float32")
    np.testing.assert_allclose(
        hard_concrete.prob_open(log_alpha), PROB_OPEN, atol=6e-5
    )
    np.testing.assert_allclose(
        hard_concrete.deterministic_gate(log_alpha), TEST_GATE, atol=6e-5
    )


@pytest.mark.parametrize("row", [0, 2, 3, 4, 5, 6, 7])
def test_samples_have_the_reference_frequencies(row):
    gates = draw(LOG_ALPHA[row])
    # Five standard deviations, and the rounding of the table.
    margin = 5 * 0.5 / np.sqrt(DRAWS) + 5e-5
    assert np.mean(gates != 0) == pytest.approx(PROB_OPEN[row], abs=margin)
    assert np.mean(gates == 1) == pytest.approx(PROB_ONE[row], abs=margin)
    assert np.mean(gates) == pytest.approx(MEAN[row], abs=margin)


@pytest.mark.parametrize("log_alpha", [-2.0, 0.5, 3.0])
@pytest.mark.parametrize(
    "constants", [{}, {"temperature": 0.4, "gamma": -0.3, "zeta": 1.2}]
)
def test_samples_follow_an_independent_sampler(log_alpha, constants):
    # numpy's extremes go beyond the clipped noise, hence the rounding.
    ours = np.round(draw(log_alpha, **constants), 5)
    theirs = np.round(numpy_draw(log_alpha, **constants), 5)
    assert largest_distance(ours, theirs) < 2 * DKW


@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 1.5])
def test_samples_follow_the_cdf(log_alpha):
    gates = np.sort(draw(log_alpha))
    x = np.linspace(0, 1, 501, dtype="float32")
    empirical = np.searchsorted(gates, x, side="right") / DRAWS
    cdf = numpy(hard_concrete.cdf(x, np.float32(log_alpha)))
    assert np.abs(empirical - cdf).max() < DKW


def test_cdf_jumps_where_the_atoms_are():
    log_alpha = np.float32(0.7)
    x = np.array([-1, -1e-6, 0, 1 - 1e-7, 1, 2], "float32")
    cdf = numpy(hard_concrete.cdf(x, log_alpha))
    prob_open = sigmoid(0.7 + 2 / 3 * np.log(11))
    prob_one = sigmoid(0.7 - 2 / 3 * np.log(11))
    expected = [0, 0, 1 - prob_open, 1 - prob_one, 1, 1]
    np.testing.assert_allclose(cdf, expected, atol=1e-6)


@given(log_alpha=moderate, constants=constants)
def test_prob_open_is_what_the_cdf_leaves(log_alpha, constants):
    prob = hard_concrete.prob_open(np.float32(log_alpha), **constants)
    cdf = hard_concrete.cdf(np.float32(0), np.float32(log_alpha), **constants)
    assert float(prob) == pytest.approx(1 - float(cdf), abs=1e-5)


@given(u=probabilities, log_alpha=moderate, constants=constants)
def test_quantile_inverts_the_cdf(u, log_alpha, constants):
    log_alpha = np.float32(log_alpha)
    gate = hard_concrete.quantile(np.float32(u), log_alpha, **constants)
    back = float(hard_concrete.cdf(gate, log_alpha, **constants))
    gate = float(gate)
    # A float32 next to 1 or 0 tells u only this well apart.
    margin = 1e-4
    if gate == 0:
        assert u <= back + margin
    elif gate == 1:
        prob_one = 1 - hard_concrete.cdf(
            np.float32(1 - 1e-6), log_alpha, **constants
        )
        assert u >= 1 - float(prob_one) - margin
    else:
        assert back == pytest.approx(u, abs=margin)


@given(u=probabilities, log_alpha=floats, constants=constants)
def test_quantile_matches_float64(u, log_alpha, constants):
    u64 = np.clip(np.float64(u), 1e-6, 1 - 1e-6)
    s = sigmoid(
        (np.log(u64) - np.log1p(-u64) + log_alpha) / constants["temperature"]
    )
    span = constants["zeta"] - constants["gamma"]
    expected = np.clip(s * span + constants["gamma"], 0, 1)
    gate = hard_concrete.quantile(
        np.float32(u), np.float32(log_alpha), **constants
    )
    # At u = 1 - 1e-6 a float32 is off by up to 3 % of 1 - u.
    assert float(gate) == pytest.approx(expected, abs=2e-3)


@given(
    u=st.lists(probabilities, min_size=2, max_size=8),
    log_alpha=st.lists(floats, min_size=2, max_size=8),
)
def test_quantile_grows_with_noise_and_log_alpha(u, log_alpha):
    u = np.sort(np.array(u, "float32"))
    log_alpha = np.sort(np.array(log_alpha, "float32"))
    gates = numpy(hard_concrete.quantile(u[:, None], log_alpha))
    assert gates.min() >= 0 and gates.max() <= 1
    assert (np.diff(gates, axis=0) >= -1e-6).all()
    assert (np.diff(gates, axis=1) >= -1e-6).all()


@pytest.mark.parametrize(
    "function",
    [
        lambda a: hard_concrete.sample(a, 5),
        lambda a: hard_concrete.quantile(np.float32(0), a),
        lambda a: hard_concrete.quantile(np.float32(1), a),
        lambda a: hard_concrete.cdf(np.float32(0), a),
        lambda a: hard_concrete.cdf(np.float32(0.5), a),
        lambda a: hard_concrete.cdf(np.float32(1), a),
        lambda a: hard_concrete.cdf(np.float32(-3), a),
        lambda a: hard_concrete.cdf(np.float32(3), a),
        hard_concrete.prob_open,
        hard_concrete.deterministic_gate,
    ],
)
def test_far_log_alpha_is_safe_in_float32(function):
    log_alpha = np.linspace(-100, 100, 2001).astype("float32")
    values = numpy(function(ops.convert_to_tensor(log_alpha)))
    assert np.isfinite(values).all()
    assert values.min() >= 0 and values.max() <= 1
    assert np.isfinite(gradient(function, log_alpha)).all()


@given(u=probabilities)
def test_cdf_gradient_in_x_is_finite(u):
    slope = gradient(lambda x: hard_concrete.cdf(x, np.float32(0.3)), 3 * u - 1)
    assert np.isfinite(slope).all()


def test_sample_gradient_follows_the_formula():
    log_alpha = np.linspace(-4, 4, 400).astype("float32")
    gates = numpy(hard_concrete.sample(log_alpha, 11)).astype("float64")
    slope = gradient(lambda a: hard_concrete.sample(a, 11), log_alpha)
    s = (gates + 0.1) / 1.2
    inside = (gates > 0) & (gates < 1)
    assert 100 < inside.sum() < 390
    expected = np.where(inside, 1.2 * s * (1 - s) * 1.5, 0)
    np.testing.assert_allclose(slope, expected, atol=1e-5)


@given(log_alpha=floats, constants=constants)
def test_prob_open_gradient(log_alpha, constants):
    shift = constants["temperature"] * np.log(
        -constants["gamma"] / constants["zeta"]
    )
    prob = sigmoid(log_alpha - shift)
    slope = gradient(
        lambda a: hard_concrete.prob_open(a, **constants), log_alpha
    )
    assert float(slope) == pytest.approx(prob * (1 - prob), abs=1e-6)


def test_test_gate_thresholds():
    threshold = np.log(11)
    gates = hard_concrete.deterministic_gate(
        np.array(
            [-threshold - 1e-4, -threshold + 1e-4]
            + [threshold - 1e-4, threshold + 1e-4],
            "float32",
        )
    )
    closed, ajar, nearly, opened = numpy(gates)
    assert closed == 0 and opened == 1
    assert 0 < ajar < 1e-4 and 1 - 1e-4 < nearly < 1


def test_test_gate_ignores_the_temperature():
    log_alpha = np.linspace(-3, 3, 13).astype("float32")
    np.testing.assert_array_equal(
        hard_concrete.deterministic_gate(log_alpha, temperature=0.1),
        hard_concrete.deterministic_gate(log_alpha, temperature=5.0),
    )


def test_sample_shape_and_dtype():
    log_alpha = np.zeros((4,), "float32")
    assert hard_concrete.sample(log_alpha, 1).shape == (4,)
    gates = hard_concrete.sample(log_alpha, 1, shape=(3, 4))
    assert gates.shape == (3, 4)
    assert keras.backend.standardize_dtype(gates.dtype) == "float32"
    # Each row has noise of its own.
    assert len(np.unique(numpy(gates)[:, 0])) == 3


def test_sample_repeats_with_an_integer_and_moves_on_with_a_generator():
    log_alpha = np.zeros((50,), "float32")
    first = numpy(hard_concrete.sample(log_alpha, 1))
    np.testing.assert_array_equal(first, hard_concrete.sample(log_alpha, 1))
    assert (first != numpy(hard_concrete.sample(log_alpha, 2))).any()
    generator = keras.random.SeedGenerator(1)
    first = numpy(hard_concrete.sample(log_alpha, generator))
    assert (first != numpy(hard_concrete.sample(log_alpha, generator))).any()


@pytest.mark.parametrize(
    "constants, name",
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"gamma": 0.0}, "gamma"),
        ({"zeta": 1.0}, "zeta"),
    ],
)
def test_refuses_what_is_no_hard_concrete(constants, name):
    log_alpha = np.zeros((2,), "float32")
    for function in (
        lambda: hard_concrete.sample(log_alpha, 1, **constants),
        lambda: hard_concrete.quantile(log_alpha, log_alpha, **constants),
        lambda: hard_concrete.cdf(log_alpha, log_alpha, **constants),
        lambda: hard_concrete.prob_open(log_alpha, **constants),
        lambda: hard_concrete.deterministic_gate(log_alpha, **constants),
    ):
        with pytest.raises(ValueError, match=rf"`{name}`.*Received: {name}="):
            function()
