import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops
from scipy import optimize

from l0keras.regularizers import WGSEF
from l0keras.regularizers import GroupLasso
from tests.testing import gradient

# JAX compiles each loop anew.
EXAMPLES = 30 if keras.backend.backend() == "tensorflow" else 5
TRIPLE = [[3.0, 4.0], [1.0, 0.0], [0.6, 0.8]]


def array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def close(got, expected, tolerance=1e-6):
    np.testing.assert_allclose(
        array(got), expected, rtol=tolerance, atol=tolerance
    )


# === Vectors worked out by hand ===


@pytest.mark.parametrize(
    "mu, expected",
    [
        (0.5, [2, -0.625, 0.125, 0]),
        (0.05, [2.857143, -0.930435, 0.430435, 0.030435]),
        (10.0, [0.272727, -0.090909, 0, 0]),
    ],
)
def test_prox_of_single_weights(mu, expected):
    close(WGSEF(2).prox([3.0, -1.0, 0.5, 0.1], mu), expected)


def test_prox_of_groups():
    expected = [[2, 2.666667], [0, 0], [0, 0]]
    close(WGSEF(1, axis=0).prox(TRIPLE, 0.5), expected)


def test_prox_of_weighted_groups():
    envelope = WGSEF(2, axis=0, group_weights=[1, 2, 4])
    expected = [[2.4, 3.2], [0.517157, 0], [0.190294, 0.253726]]
    close(envelope.prox(TRIPLE, 0.25), expected)


def test_values():
    close(WGSEF(2)([3.0, -1.0, 0.5, 0.1]), 5.78)
    close(WGSEF(1, axis=0)(TRIPLE), 24.5)
    weighted = WGSEF(2, axis=0, group_weights=[1, 2, 4])
    close(weighted(TRIPLE), 18.328427)


# === Closed forms ===


@pytest.mark.parametrize("mu", [0.0, 1e-3, 0.7, 30.0])
def test_as_many_groups_as_there_are_is_ridge(mu):
    x = np.random.default_rng(0).normal(size=(4, 7))
    d = np.array([0.5, 1.0, 2.0, 3.0])
    envelope = WGSEF(4, axis=0, group_weights=d)
    close(envelope(x), 0.5 * np.sum(d[:, None] * x**2))
    close(envelope.prox(x, mu), x / (1 + mu * d[:, None]))
    close(envelope.gradient(x), d[:, None] * x)
    close(WGSEF(1.0, axis=0, group_weights=d)(x), envelope(x))


def test_one_group_is_half_the_squared_sum_of_norms():
    x = np.random.default_rng(1).normal(size=(5, 3))
    norms = np.sqrt(np.sum(x**2, axis=1))
    close(WGSEF(1, axis=0)(x), 0.5 * np.sum(norms) ** 2)


@pytest.mark.parametrize("penalty", [WGSEF(2), WGSEF(1.0), GroupLasso()])
def test_a_prox_of_nothing_changes_nothing(penalty):
    x = np.float32([3.0, -1.0, 0.5, 0.0, 1e-15])
    np.testing.assert_array_equal(array(penalty.prox(x, 0.0)), x)


def test_groups_that_are_few_enough_are_only_decayed():
    x = [0.0, -3.0, 0.0, 1e-3, 0.0]
    close(WGSEF(2).prox(x, 0.5), np.array(x) / 1.5)
    close(WGSEF(3)(x), 0.5 * np.sum(np.square(x)))


def test_nothing_stays_nothing():
    for penalty in (WGSEF(2), GroupLasso()):
        assert float(penalty(np.zeros(4))) == 0
        close(penalty.prox(np.zeros(4), 0.5), np.zeros(4))
        close(penalty.gradient(np.zeros(4)), np.zeros(4))
        close(gradient(penalty, np.zeros(4)), np.zeros(4))


def test_group_lasso_thresholds_norms():
    lasso = GroupLasso(axis=0)
    root = np.sqrt(2)
    close(lasso(TRIPLE), root * (5 + 1 + 1))
    # Each norm loses mu * sqrt(2).
    close(
        lasso.prox(TRIPLE, 1.0),
        [[3 * (1 - root / 5), 4 * (1 - root / 5)], [0, 0], [0, 0]],
    )
    close(
        lasso.gradient([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]]),
        [[0.6 * root, 0.8 * root], [0, 0], [0, root]],
    )
    weighted = GroupLasso(axis=0, group_weights=[1.0, 2.0, 3.0])
    close(weighted(TRIPLE), 5 + 2 + 3)


def test_axes():
    x = np.random.default_rng(2).normal(size=(2, 3, 4))
    close(GroupLasso(axis=1)(x), GroupLasso(axis=-2)(x))
    both = GroupLasso(axis=(0, 2))(x)
    close(both, np.sqrt(3) * np.sum(np.sqrt(np.sum(x**2, axis=1))))
    flat = WGSEF(5, axis=(0, 1, 2)).prox(x, 0.1)
    close(np.ravel(flat), WGSEF(5).prox(np.ravel(x), 0.1))


# === Independent solvers ===


def problem(rng):
    groups = int(rng.integers(1, 9))
    sizes = rng.integers(1, 4)
    x = rng.normal(size=(groups, sizes)) * 10.0 ** rng.uniform(-2, 2)
    if rng.random() < 0.3:
        x[rng.random(groups) < 0.4] = 0
    d = None
    if rng.random() < 0.6:
        d = 10.0 ** rng.uniform(-1, 1, groups)
    k = int(rng.integers(1, groups + 1))
    return x.astype("float32"), d, k, 10.0 ** rng.uniform(-3, 1.5)


def solve(x, d, k, mu):
    """The smallest 0.5 |v - x|^2 + mu S_k(v), over the norms of v and u."""
    c = np.sqrt(np.sum(x.astype("float64") ** 2, axis=1))
    scale = c.max()
    if scale == 0:
        return 0.0
    c = c / scale
    groups = len(c)

    def objective(z):
        r, u = z[:groups], z[groups:]
        s = r * r / np.maximum(u, 1e-12)
        value = 0.5 * np.sum((r - c) ** 2) + 0.5 * mu * np.sum(d * s)
        slope_r = r - c + mu * d * r / np.maximum(u, 1e-12)
        slope_u = -0.5 * mu * d * s / np.maximum(u, 1e-12)
        return value, np.concatenate([slope_r, slope_u])

    start = np.concatenate([0.5 * c, np.full(groups, k / groups)])
    found = optimize.minimize(
        objective,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0, None)] * groups + [(1e-9, 1)] * groups,
        constraints={
            "type": "ineq",
            "fun": lambda z: k - np.sum(z[groups:]),
            "jac": lambda z: np.concatenate(
                [np.zeros(groups), -np.ones(groups)]
            ),
        },
        options={"maxiter": 500, "ftol": 1e-13},
    )
    return found.fun * scale**2


def envelope_of(v, d, k):
    """S_k(v) by linear programming's dual, in float64.

    max_y <v, y> - 0.5 * (sum of the k largest y_j^2 / d_j), which for
    a_j = sqrt(d_j) |v_j| is half the squared k-support norm of a: by
    the formula of Argyriou, Foygel and Srebro (2012), theorem 2.1.
    """
    a = np.sort(np.sqrt(d) * np.sqrt(np.sum(v**2, axis=1)))[::-1]
    for r in range(k):
        rest = a[k - r - 1 :].sum()
        before = a[k - r - 2] if k - r - 2 >= 0 else np.inf
        if before > rest / (r + 1) >= a[k - r - 1]:
            break
    return 0.5 * (np.sum(a[: k - r - 1] ** 2) + rest**2 / (r + 1))


@pytest.mark.parametrize(
    "problems", [2 * EXAMPLES, pytest.param(500, marks=pytest.mark.slow)]
)
def test_prox_against_a_convex_solver(problems):
    rng = np.random.default_rng(problems)
    gaps = []
    for _ in range(problems):
        x, d, k, mu = problem(rng)
        weights = np.ones(len(x)) if d is None else d
        penalty = WGSEF(k, axis=0, group_weights=d)
        v = array(penalty.prox(x, mu))
        reached = 0.5 * np.sum((v - x) ** 2) + mu * envelope_of(v, weights, k)
        best = solve(x, weights, k, mu)
        gaps.append((reached - best) / max(best, 1e-30))
    # A solver may also do worse than the closed form.
    assert np.max(gaps) <= 1e-5
    assert np.median(np.abs(gaps)) <= 1e-6


def test_value_against_the_k_support_norm():
    rng = np.random.default_rng(1)
    for _ in range(2 * EXAMPLES):
        x, d, k, _ = problem(rng)
        weights = np.ones(len(x)) if d is None else d
        expected = envelope_of(x.astype("float64"), weights, k)
        got = float(WGSEF(k, axis=0, group_weights=d)(x))
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_value_is_the_largest_of_its_dual():
    rng = np.random.default_rng(2)
    for _ in range(EXAMPLES // 3):
        x = rng.normal(size=(6, 2))
        d = rng.uniform(0.3, 3, 6)
        k = int(rng.integers(1, 7))
        penalty = WGSEF(k, axis=0, group_weights=d)
        value = float(penalty(x))

        def dual(y):
            squared = np.sort(np.sum(y**2, axis=1) / d)[::-1]
            return np.sum(x * y) - 0.5 * squared[:k].sum()

        for _ in range(200):
            y = rng.normal(size=x.shape) * 10 ** rng.uniform(-1, 1)
            assert dual(y) <= value * (1 + 1e-5)
        # The gradient is where it is reached.
        assert dual(array(penalty.gradient(x))) == pytest.approx(
            value, rel=1e-5
        )


@pytest.mark.parametrize("penalty", [WGSEF(2, axis=0), GroupLasso(axis=0)])
def test_gradients_are_those_of_finite_differences(penalty):
    x = np.random.default_rng(3).normal(size=(4, 3))
    expected = array(penalty.gradient(x))
    close(gradient(penalty, x), expected, 1e-5)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = 1e-2
        slope = (float(penalty(x + step)) - float(penalty(x - step))) / 2e-2
        assert slope == pytest.approx(expected[index], rel=1e-2, abs=1e-3)


# === Properties ===

penalties = st.one_of(
    st.builds(WGSEF, st.integers(1, 6), axis=st.just(0)),
    st.builds(WGSEF, st.floats(0.05, 1.0), axis=st.just(0)),
    st.just(GroupLasso(axis=0)),
)
numbers = st.floats(-100, 100, width=32)
matrices = st.lists(
    st.lists(numbers, min_size=2, max_size=2), min_size=6, max_size=6
)


@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(penalties, matrices, matrices, st.floats(0, 20))
def test_prox_is_firmly_nonexpansive(penalty, one, other, mu):
    one, other = np.array(one), np.array(other)
    moved = array(penalty.prox(one, mu)) - array(penalty.prox(other, mu))
    scale = max(np.sum(moved**2), np.sum((one - other) ** 2), 1.0)
    assert np.sum(moved**2) <= np.sum(moved * (one - other)) + 1e-4 * scale


@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(matrices, st.integers(1, 6), st.floats(0, 100))
def test_at_least_k_groups_stay(x, k, mu):
    x = np.array(x)
    # Below, their products with each other are not float32 any more.
    x[np.abs(x) < 1e-10] = 0
    before = np.count_nonzero(np.any(x != 0, axis=1))
    left = array(WGSEF(k, axis=0).prox(x, mu))
    assert np.count_nonzero(np.any(left != 0, axis=1)) >= min(k, before)


def test_many_groups_of_all_magnitudes():
    rng = np.random.default_rng(4)
    x = rng.normal(size=20_000) * 10.0 ** rng.uniform(-12, 6, 20_000)
    for k in (1, 100, 19_999):
        norms = np.abs(x).astype("float32")
        shares = array(WGSEF(k).shares(ops.convert_to_tensor(norms)))
        assert np.sum(shares) == pytest.approx(k, rel=1e-4)


def test_prox_inside_a_compiled_function():
    x = np.random.default_rng(5).normal(size=50).astype("float32")
    penalty = WGSEF(10)
    expected = array(penalty.prox(x, 0.3))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        function = tf.function(lambda x: penalty.prox(x, 0.3))
        compiled = tf.function(function, jit_compile=True)
        close(compiled(tf.constant(x)), expected, 1e-5)
    else:
        import jax

        function = jax.jit(lambda x: penalty.prox(x, 0.3))
    close(function(ops.convert_to_tensor(x)), expected, 1e-5)


# === Use ===


@pytest.mark.parametrize(
    "penalty",
    [
        WGSEF(3, axis=(0, 1), group_weights=[1.0] * 8),
        WGSEF(0.34),
        GroupLasso(axis=0),
    ],
)
def test_configurations_come_back(penalty):
    config = keras.saving.serialize_keras_object(penalty)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(penalty)
    assert copy.get_config() == penalty.get_config()


def test_as_the_regularizer_of_a_layer(tmp_path):
    layer = keras.layers.Dense(6, kernel_regularizer=WGSEF(2))
    model = keras.Sequential([keras.Input((5,)), layer])
    penalty = WGSEF(2)
    close(model.losses[0], float(penalty(layer.kernel)))
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 5)), np.ones((8, 6)), verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    close(loaded.losses[0], float(model.losses[0]))


def test_shares_are_rounded():
    assert WGSEF(0.34).groups_to_keep(50) == 17
    assert WGSEF(0.01).groups_to_keep(10) == 1
    assert WGSEF(1.0).groups_to_keep(10) == 10


@pytest.mark.parametrize("k", [0, -1, 0.0, 1.5, True, "3", None, float("nan")])
def test_a_k_that_is_out_of_range(k):
    with pytest.raises(ValueError, match="Argument `k` must be.*Received: k="):
        WGSEF(k)


def test_more_groups_than_there_are():
    with pytest.raises(ValueError, match="at most the number of groups, 4"):
        WGSEF(5)(np.ones(4))
    with pytest.raises(ValueError, match="at most the number of groups, 4"):
        WGSEF(5).prox(np.ones(4), 0.1)


@pytest.mark.parametrize("kind", [lambda **k: WGSEF(1, **k), GroupLasso])
@pytest.mark.parametrize(
    "weights", [[1, 0], [1, -2], [float("nan")], [float("inf")], [[1.0]]]
)
def test_group_weights_that_are_not_positive(kind, weights):
    with pytest.raises(ValueError, match="`group_weights` must be a list"):
        kind(group_weights=weights)


@pytest.mark.parametrize("kind", [lambda **k: WGSEF(1, **k), GroupLasso])
def test_group_weights_of_another_length(kind):
    penalty = kind(group_weights=[1.0, 2.0])
    for use in (penalty, penalty.gradient, lambda x: penalty.prox(x, 1.0)):
        with pytest.raises(ValueError, match="the 3 groups. Received: 2"):
            use(np.ones(3))


def test_a_prox_of_less_than_nothing():
    with pytest.raises(ValueError, match="`mu` must be at least 0"):
        GroupLasso().prox(np.ones(3), -0.1)


@pytest.mark.parametrize("axis", ["0", 1.0, (), (0, 0), True])
def test_axes_that_are_none(axis):
    with pytest.raises(ValueError, match="Argument `axis` must be an integer"):
        WGSEF(1, axis=axis)
    with pytest.raises(ValueError, match="an axis of the 1 that `x` has"):
        WGSEF(1, axis=1)(np.ones(3))
