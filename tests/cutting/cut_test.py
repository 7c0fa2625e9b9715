import warnings

import keras
import numpy as np
import pytest

import l0keras
from l0keras.cutting import cut
from l0keras.cutting.choose_gates import CostCounter
from l0keras.cutting.choose_gates import choose_gates
from l0keras.regularizers import ExpectedCost
from l0keras.targets import Target
from tests import networks
from tests.networks import outputs_of
from tests.networks import random_inputs

COUNTS = {"params": lambda m: m.count_params(), "macs": l0keras.count_macs}


def trained(model, targets, rng):
    """A gated copy as if it had been trained, with gates of all kinds."""
    gated = l0keras.sparsify(model, target=targets, steps=10)
    budget = gated.get_layer("gate_budget")
    for bias in budget._biases:
        bias.assign(rng.normal(size=bias.shape))
    budget.step.assign(10)
    budget.offsets.assign([1.0] * budget.budgets)
    return gated


@pytest.mark.parametrize("of", COUNTS)
@pytest.mark.parametrize("network", ["residual", "squeeze_excite", "chain"])
def test_never_above_and_close_below(network, of):
    rng = np.random.default_rng(4)
    model = getattr(networks, network)()
    networks.randomize(model, rng)
    for share in (0.8, 0.5):
        gated = trained(model, Target(of, share), rng)
        small = l0keras.cut(gated)
        reached = COUNTS[of](small) / COUNTS[of](model)
        # Units are few and large here.
        assert 0.8 * share < reached <= share
        assert not l0keras.gates_of(small)


def test_all_of_several_targets_are_reached():
    rng = np.random.default_rng(5)
    model = networks.chain()
    targets = [Target("params", 0.5), Target("macs", 0.6)]
    gated = trained(model, targets, rng)
    small = l0keras.cut(gated)
    assert small.count_params() <= 0.5 * model.count_params()
    assert l0keras.count_macs(small) <= 0.6 * l0keras.count_macs(model)


def test_gates_that_stay_keep_their_values():
    """All gates stay, so the cut model computes what the gated one does."""
    rng = np.random.default_rng(6)
    model = networks.residual()
    networks.randomize(model, rng)
    gated = l0keras.sparsify(model)
    for gate in l0keras.gates_of(gated):
        gate.log_alpha.assign(rng.uniform(-2, 2, gate.log_alpha.shape))
    inputs = random_inputs(model, rng)
    small = l0keras.cut(gated, Target("params", 1.0))
    for one, other in zip(
        outputs_of(gated, inputs), outputs_of(small, inputs), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)
    # And the caller's gates are as before.
    assert all(gate.held is None for gate in l0keras.gates_of(gated))


def test_models_with_prices_are_cut_too():
    model = networks.chain()
    gated = l0keras.sparsify(model, l0=1e-3)
    rng = np.random.default_rng(7)
    for gate in l0keras.gates_of(gated):
        gate.log_alpha.assign(rng.normal(size=gate.log_alpha.shape))
    small = l0keras.cut(gated, Target("params", 0.6))
    assert 0.4 < small.count_params() / model.count_params() <= 0.6
    with pytest.raises(ValueError, match="`target` must be given"):
        l0keras.cut(gated)
    with pytest.raises(ValueError, match="can be reached.*smallest is"):
        l0keras.cut(gated, Target("params", 0.001))
    with pytest.raises(ValueError, match="`min_units` .*min_units=2.5"):
        l0keras.cut(gated, Target("params", 0.6), min_units=2.5)
    with pytest.raises(ValueError, match="`round_to` .*round_to=0"):
        l0keras.cut(gated, Target("params", 0.6), round_to=0)
    with pytest.raises(ValueError, match="`gated` must be a Keras model"):
        l0keras.cut(None, Target("params", 0.6))
    with pytest.raises(ValueError, match="model with gates"):
        l0keras.cut(model, Target("params", 0.6))


def test_widths_are_rounded_within_the_target():
    inputs = keras.Input((16,))
    x = keras.layers.Dense(64, activation="relu")(inputs)
    x = keras.layers.Dense(64, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    gated = trained(model, Target("params", 0.5), np.random.default_rng(8))
    small = l0keras.cut(gated, round_to=8)
    assert small.count_params() <= 0.5 * model.count_params()
    for layer in small.layers[:-1]:
        if hasattr(layer, "units"):
            assert layer.units % 8 == 0


class InBlocks:
    """A `Yardstick` of multiply-accumulates in blocks of 16 channels."""

    def __init__(self, *_):
        pass

    def size_of(self, model):
        *hidden, _ = [w.shape for w in model.weights if len(w.shape) == 2]
        return sum(n * 16 * -(-made // 16) for n, made in hidden)


def test_layers_before_a_step_of_the_time_leave_their_room_to_others(
    monkeypatch,
):
    monkeypatch.setattr(cut, "Yardstick", InBlocks)
    inputs = keras.Input((8,))
    x = keras.layers.Dense(64, activation="relu")(inputs)
    x = keras.layers.Dense(64, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    dense = InBlocks().size_of(model)
    rng = np.random.default_rng(10)
    for share in (0.3, 0.4, 0.6):
        gated = trained(model, Target("macs", share), rng)
        budget = gated.get_layer("gate_budget")
        limit = share * dense
        latency = Target("latency", at_most=limit)
        budget.set_budgets(budget.costs, budget.at_most, [latency])
        small = l0keras.cut(gated)
        reached = InBlocks().size_of(small) / limit
        assert 0.9 < reached <= 1, share


def test_times_that_the_smallest_model_does_not_reach(monkeypatch):
    monkeypatch.setattr(cut, "Yardstick", InBlocks)
    inputs = keras.Input((8,))
    x = keras.layers.Dense(64, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    gated = trained(model, Target("macs", 0.5), np.random.default_rng(11))
    budget = gated.get_layer("gate_budget")
    latency = Target("latency", at_most=1.5)
    budget.set_budgets(budget.costs, budget.at_most, [latency])
    with pytest.raises(ValueError, match="can be reached.*smallest is 16 us"):
        l0keras.cut(gated)
    # After a training, no error: a machine may just have become slower.
    widths = {"min_units": 1, "round_to": None}
    yardsticks = {latency.about: InBlocks()}
    with pytest.raises(ValueError, match="smallest is 16 us"):
        cut.check_reachable(gated, None, yardsticks=yardsticks, **widths)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept = cut.kept_gates(
            gated, None, None, yardsticks=yardsticks, **widths
        )
    texts = [str(one.message) for one in caught]
    assert any("smallest model was taken: 16 us" in text for text in texts)
    # One input and one unit.
    assert kept.sum() == 2


def test_the_choice_takes_the_best_and_then_what_fits():
    """Against taking one gate after the other."""
    rng = np.random.default_rng(9)
    units = [4, 5]
    terms = [(1, [(3, {}), (0, {0: 1})]), (2, [(0, {0: 1}), (0, {1: 1})])]
    terms.append((1, [(0, {1: [1, 2, 3, 4, 5]})]))
    counter = CostCounter([ExpectedCost(terms, units)])
    protected = np.zeros(9, bool)
    for _ in range(20):
        scores = rng.normal(size=9)
        allowed = rng.random(9) < 0.8
        limit = np.array([rng.uniform(5, 60)])
        kept = choose_gates(scores, protected, allowed, counter, limit)

        def size(choice):
            n, m = np.sum(choice[:4]), np.sum(choice[4:])
            own = np.arange(1, 6) @ np.asarray(choice[4:], float)
            return 3 * n + 2 * n * m + own

        order = np.argsort(-scores)
        expected = np.zeros(9, bool)
        for index in order:
            expected[index] = allowed[index]
            if size(expected) > limit:
                expected[index] = False
        assert size(kept) <= limit
        np.testing.assert_array_equal(kept, expected)
        # No gate that is left out would fit.
        for index in np.flatnonzero(allowed & ~kept):
            more = kept.copy()
            more[index] = True
            assert size(more) > limit
