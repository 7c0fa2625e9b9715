"""Controllers with a multiplier, step by step against numpy."""

import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras.regularizers import ExpectedCost
from trainers.studies import multipliers

UNITS = [6, 9]
# 4 -> 6 gates -> 9 gates -> 2, without biases.
TERMS = [
    (1, [(4, {}), (0, {0: 1})]),
    (1, [(0, {0: 1}), (0, {1: 1})]),
    (1, [(0, {1: 1}), (2, {})]),
]
FULL = 4 * 6 + 6 * 9 + 9 * 2
LIMIT = 0.25
KINDS = (multipliers.Lagrange, multipliers.NuPI, multipliers.Composed)


def made(kind, steps=1000, **arguments):
    controller = kind(UNITS, steps, seed=1, **arguments)
    controller.set_budgets([ExpectedCost(TERMS, UNITS)], [LIMIT * FULL])
    controller(np.zeros((1, 1), "float32"))
    return controller


def hold(controller, log_alpha):
    """Sets all gates; returns the expected cost as a share."""
    for variable in controller.trainable_variables:
        variable.assign(ops.full(variable.shape, log_alpha / controller.gain))
    [share] = ops.convert_to_numpy(controller.shares(controller.log_alphas()))
    return float(share)


def step(controller):
    """One call for training; returns the multiplier and the penalty."""
    controller(np.zeros((1, 1), "float32"), training=True)
    [multiplier] = ops.convert_to_numpy(controller.multipliers)
    return float(multiplier), float(controller.losses[-1])


def gated_model(kind, steps=40, **arguments):
    controller = kind(UNITS, steps, seed=1, **arguments)
    inputs = keras.Input((4,))
    first, second = controller(inputs)
    x = keras.layers.Dense(6, activation="relu")(inputs)
    x = l0keras.HardConcreteGate(seed=2)(x, log_alpha=first)
    x = keras.layers.Dense(9, activation="relu")(x)
    x = l0keras.HardConcreteGate(seed=3)(x, log_alpha=second)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    controller.set_budgets([ExpectedCost(TERMS, UNITS)], [LIMIT * FULL])
    return model, controller


def _values(model):
    return [ops.convert_to_numpy(variable) for variable in model.variables]


def examples(steps):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8 * steps, 4)).astype("float32")
    return x, x[:, :2] ** 2


def fit(model, steps):
    model.fit(*examples(steps), batch_size=8, shuffle=False, verbose=0)


def test_lagrange_climbs_and_starts_again_where_the_budget_is_kept():
    controller = made(multipliers.Lagrange)
    rate = 1e-4 * 200 * 469 / 1000
    share = hold(controller, 1.0)
    for count in (1, 2, 3):
        multiplier, penalty = step(controller)
        assert multiplier == pytest.approx(count * rate * (share - LIMIT), 3e-3)
        assert penalty == pytest.approx(multiplier * share, 1e-5)
    assert hold(controller, -3.0) < LIMIT
    assert step(controller) == (0.0, 0.0)


def test_nu_pi_adds_what_has_changed():
    controller = made(multipliers.NuPI)
    expected, before = 0.0, None
    for log_alpha in (2.0, 2.0, -0.6, 0.5, -4.0, 3.0):
        share = hold(controller, log_alpha)
        before = share if before is None else before
        expected += 0.0626 * (share - LIMIT) + 9.6 * (share - before)
        expected, before = max(expected, 0.0), share
        assert step(controller)[0] == pytest.approx(expected, 2e-3, abs=1e-4)


def test_the_composed_one_follows_its_schedule_and_is_held_at_the_end():
    controller = made(multipliers.Composed)
    controller.scale.assign([3.0])
    share = hold(controller, 1.0)
    controller.step.assign(225)
    # Half of the way from 5 % to 40 %.
    allowed = LIMIT + (1 - LIMIT) / 8
    error = share - allowed
    controller.before.assign([0.9 * error])
    expected = 0.1 * 3 * (error + 50 * 0.1 * error)
    assert step(controller)[0] == pytest.approx(expected, 1e-3)
    controller.step.assign(850)
    controller.multipliers.assign([0.7])
    assert step(controller)[0] == pytest.approx(0.7)


def test_the_composed_one_learns_what_test_gates_cost():
    controller = made(multipliers.Composed)
    share = hold(controller, -2.0)
    step(controller)
    assert ops.convert_to_numpy(controller.offset) == 0
    for count in (1, 2):
        controller.step.assign(100 * count - 1)
        step(controller)
        # All test gates are still open, though few gates are in training.
        expected = (1 - share) * (1 - 0.9**count)
        [offset] = ops.convert_to_numpy(controller.offset)
        assert offset == pytest.approx(expected, 1e-4)


class _Constant(multipliers.Multiplier):
    def next_multipliers(self, shares, log_alphas):
        return ops.ones_like(shares)


@pytest.mark.parametrize(("passed", "way"), [(6, 40 * 6 / 40), (40, None)])
def test_gates_are_as_fast_as_the_number_of_steps_asks_for(passed, way):
    model, controller = gated_model(_Constant, learning_rate=0.02)
    # Nothing but the price moves the gates.
    model.compile(keras.optimizers.Adam(0.02), "mse", loss_weights=0.0)
    start = np.concatenate(controller.log_alphas())
    fit(model, passed)
    end = np.concatenate(controller.log_alphas())
    if way is None:
        assert end == pytest.approx(-8.0)
    else:
        assert start - end == pytest.approx(way, rel=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_goes_on_as_if_nothing_had_happened(kind, tmp_path):
    model, _ = gated_model(kind, learning_rate=0.01)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    fit(model, 5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(model.layers, loaded.layers, strict=True):
        for state, copy in zip(one.variables, other.variables, strict=True):
            if "seed" in state.path:
                # Keras saves no seeds.
                copy.assign(ops.convert_to_numpy(state))
    for one in (model, loaded):
        fit(one, 5)
    for values in zip(_values(model), _values(loaded), strict=True):
        np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6)


def test_the_scale_is_that_of_the_loss_and_the_model_stays():
    model, controller = gated_model(multipliers.Composed)
    before = _values(model)
    scales = []
    for factor in (1.0, 7.0):
        multipliers.calibrate(
            controller,
            model,
            lambda y, z, factor=factor: factor * ops.mean((y - z) ** 2),
            [examples(2), examples(2)],
        )
        scales.append(float(controller.scale[0]))
    assert scales[0] > 0
    assert scales[1] == pytest.approx(7 * scales[0], rel=1e-5)
    controller.scale.assign([1.0])
    for value, other in zip(_values(model), before, strict=True):
        np.testing.assert_array_equal(value, other)


def test_refuses_chains_and_rates_of_0():
    with pytest.raises(ValueError, match="`dependence` must be None"):
        multipliers.NuPI(UNITS, dependence="forward")
    with pytest.raises(ValueError, match="`learning_rate` must be above 0"):
        multipliers.NuPI(UNITS, learning_rate=0.0)
