import keras
import numpy as np
import pytest
from keras import ops

from l0keras import hard_concrete
from l0keras.gates import GateBudget
from l0keras.gates import HardConcreteGate
from l0keras.regularizers import ExpectedCost
from tests.testing import gradient

UNITS = [6, 9]
# 4 -> 6 gates -> 9 gates -> 2, without biases.
TERMS = [
    (1, [(4, {}), (0, {0: 1})]),
    (1, [(0, {0: 1}), (0, {1: 1})]),
    (1, [(0, {1: 1}), (2, {})]),
]
FULL = 4 * 6 + 6 * 9 + 9 * 2


def cost():
    return ExpectedCost(TERMS, UNITS)


def made(at_most=24.0, **arguments):
    budget = GateBudget(UNITS, seed=1, **arguments)
    budget.set_budgets([cost()], [at_most])
    budget(np.zeros((1, 1), "float32"))
    return budget


def gated_model(at_most, steps, **arguments):
    """A network with gates of which the task needs some more than others."""
    budget = GateBudget(UNITS, steps, seed=1, **arguments)
    inputs = keras.Input((4,))
    first, second = budget(inputs)
    x = keras.layers.Dense(6, activation="relu")(inputs)
    x = HardConcreteGate(seed=2, sample_per="example")(x, log_alpha=first)
    x = keras.layers.Dense(9, activation="relu")(x)
    x = HardConcreteGate(seed=3, sample_per="example")(x, log_alpha=second)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    budget.set_budgets([cost()], [at_most])
    return model, budget


def fit(model, optimizer, steps, loss="mse"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32 * steps, 4)).astype("float32")
    y = np.stack([x[:, 0] * x[:, 1], np.abs(x[:, 2])], axis=1)
    model.compile(optimizer, loss)
    model.fit(x, y, batch_size=32, shuffle=False, verbose=0)


def drawn_cost(log_alphas, draws=4000):
    """The mean cost of gates that are drawn, counted one network a draw."""
    first, second = (
        ops.convert_to_numpy(
            hard_concrete.sample(
                ops.convert_to_tensor(x), seed, (draws, len(x))
            )
        )
        != 0
        for seed, x in enumerate(log_alphas)
    )
    n, m = first.sum(axis=1), second.sum(axis=1)
    return np.mean(4 * n + n * m + 2 * m)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(1e-3),
        lambda: keras.optimizers.SGD(1e-4),
        lambda: keras.optimizers.AdamW(0.05, clipnorm=1.0),
    ],
    ids=["adam", "slow_sgd", "fast_adamw"],
)
def test_networks_arrive_at_the_budget_with_any_optimizer(optimizer):
    model, budget = gated_model(0.3 * FULL, steps=60)
    fit(model, optimizer(), 60)
    log_alphas = [ops.convert_to_numpy(x) for x in budget.log_alphas()]
    expected = float(budget.expected()[0])
    assert drawn_cost(log_alphas) == pytest.approx(expected, rel=0.02)
    # There are few gates, and the optimizer has the last word.
    assert expected == pytest.approx(0.3 * FULL, rel=0.15)
    # Most have decided for themselves.
    decided = np.abs(np.concatenate(log_alphas)) > 2.4
    assert np.mean(decided) > 0.6


def test_the_schedule_shrinks_from_all_to_the_budget():
    budget = made(steps=100)
    allowed = []
    for step in (0, 5, 30, 50, 70, 100, 500):
        budget.step.assign(step)
        allowed.append(float(budget.allowed()[0]))
    assert allowed[0] == allowed[1] == FULL
    assert np.all(np.diff(allowed[1:5]) < 0)
    assert allowed[4:] == [24.0] * 3
    # Three parts in 13 of the way from 5 % to 70 %, cubed.
    share = (1 - (0.30 - 0.05) / 0.65) ** 3
    assert allowed[2] == pytest.approx(24 + (FULL - 24) * share, rel=1e-5)


def test_gradients_are_those_along_the_budget():
    """Against differences of a loss whose offset is found by bisection."""
    budget = made(steps=10)
    rng = np.random.default_rng(3)
    start = rng.normal(scale=0.02, size=sum(UNITS)).astype("float32")
    weights = rng.normal(size=sum(UNITS))
    for bias, value in zip(budget._biases, np.split(start, [6])):
        bias.assign(value)
    budget.origin.assign(np.zeros(sum(UNITS)))
    budget.step.assign(10)
    for _ in range(30):
        # Newton's method arrives.
        budget(np.zeros((1, 1)), training=True)
    learned = ops.convert_to_numpy(budget._learned()).astype("float64")

    def probs(values):
        offset = 2 / 3 * np.log(11)
        return 1 / (1 + np.exp(-(values + offset)))

    def count(p):
        n, m = p[:6].sum(), p[6:].sum()
        return 4 * n + n * m + 2 * m

    def loss(values):
        low, high = -50.0, 50.0
        for _ in range(80):
            middle = (low + high) / 2
            if count(probs(values - middle)) > 24.0:
                low = middle
            else:
                high = middle
        return weights @ np.tanh((values - low) / 4)

    expected = np.zeros(sum(UNITS))
    for index in range(sum(UNITS)):
        step = np.zeros(sum(UNITS))
        step[index] = 1e-4
        difference = loss(learned + step) - loss(learned - step)
        expected[index] = difference / 2e-4

    state = [ops.convert_to_numpy(x) for x in budget.variables]

    def task(raw):
        budget._raw = lambda: raw
        values = budget(np.zeros((1, 1), "float32"), training=True)
        values = ops.concatenate(values)
        return ops.sum(ops.tanh(values / 4) * weights.astype("float32"))

    found = gradient(task, start)
    for variable, value in zip(budget.variables, state, strict=True):
        # JAX would keep what belongs to the gradient.
        variable.assign(value)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    # All together cannot move.
    assert abs(found.sum()) < 5e-3


def test_saving_and_resuming_change_nothing(tmp_path):
    model, budget = gated_model(30.0, steps=40)
    fit(model, keras.optimizers.Adam(0.01), 20)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    (other,) = [x for x in loaded.layers if isinstance(x, GateBudget)]
    assert int(other.step) == int(budget.step) == 20
    assert other.at_most == [30.0]
    for one, two in zip(budget.log_alphas(), other.log_alphas(), strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(one), ops.convert_to_numpy(two)
        )
    for one, two in zip(model.layers, loaded.layers, strict=True):
        for state, copy in zip(one.variables, two.variables, strict=True):
            # Keras saves no seeds.
            copy.assign(ops.convert_to_numpy(state))
    for each in (model, loaded):
        fit(each, keras.optimizers.Adam(0.01), 5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(budget.offsets),
        ops.convert_to_numpy(other.offsets),
        rtol=1e-5,
    )


def test_only_training_moves_the_state():
    model, budget = gated_model(30.0, steps=40)
    fit(model, "adam", 10)
    state = [ops.convert_to_numpy(x) for x in budget.variables]
    model.predict(np.ones((3, 4)), verbose=0)
    budget.trainable = False
    budget(np.zeros((1, 1)), training=True)
    for before, variable in zip(state, budget.variables, strict=True):
        np.testing.assert_array_equal(before, ops.convert_to_numpy(variable))


def test_several_budgets_hold_at_once():
    budget = GateBudget(UNITS, steps=1, budgets=3, seed=0)
    first = ExpectedCost([(1, [(0, {0: 1})])], UNITS)
    costs = [cost(), cost(), first]
    budget.set_budgets(costs, [30.0, 40.0, 2.0])
    budget(np.zeros((1, 1)))
    for _ in range(200):
        budget(np.zeros((1, 1)), training=True)
    expected = ops.convert_to_numpy(budget.expected())
    np.testing.assert_allclose(expected[[0, 2]], [30.0, 2.0], rtol=0.01)
    # The second asks for less than the first, so it moves nothing.
    assert expected[1] < 40 and float(budget.offsets[1]) == 0


@pytest.mark.parametrize("dependence", ["forward", "backward"])
def test_chains_keep_to_the_budget(dependence):
    model, budget = gated_model(30.0, steps=40, dependence=dependence)
    fit(model, keras.optimizers.Adam(0.01), 40)
    assert float(budget.expected()[0]) == pytest.approx(30.0, rel=0.15)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`steps`.*Received: steps=0"):
        GateBudget(UNITS, steps=0)
    with pytest.raises(ValueError, match="must have 1 entries.*2 and 1"):
        GateBudget(UNITS).set_budgets([cost()] * 2, [1.0])
    with pytest.raises(ValueError, match="for the gates of this layer"):
        GateBudget([3]).set_budgets([cost()], [1.0])
