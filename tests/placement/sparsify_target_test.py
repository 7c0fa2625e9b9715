import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.gates import hold_gates
from l0keras.targets import Target
from tests import networks
from tests.networks import outputs_of
from tests.networks import random_inputs
from tests.placement.gated_arrays_test import NETWORKS as CONVOLUTIONAL


def recurrent():
    inputs = keras.Input((5, 3))
    x = layers.LSTM(6, return_sequences=True)(inputs)
    x = layers.GRU(4)(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def features():
    inputs = keras.Input((7,))
    x = layers.Dense(5, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(2)(x))


NETWORKS = {
    **CONVOLUTIONAL,
    "transformer": networks.transformer,
    "recurrent": recurrent,
    "features": features,
}


def in_order(gated):
    """The gates of a model in the order of its budget."""
    gates = l0keras.gates_of(gated)
    return sorted(gates, key=lambda gate: gate.generated_by()[1])


def drawn(units, rng):
    """A choice of gates by chance, at least one of each vector."""
    chosen = []
    for size in units:
        own = rng.random(size) < 0.6
        own[rng.integers(size)] = True
        chosen.append(own)
    return chosen


@pytest.mark.parametrize("network", NETWORKS)
def test_the_costs_of_open_gates_are_what_strip_leaves(network):
    """Against parameters and multiply-accumulates of the small model."""
    model = NETWORKS[network]()
    targets = [Target("params", 0.9), Target("macs", 0.8)]
    gated = l0keras.sparsify(model, target=targets, steps=1, check=False)
    budget = gated.get_layer("gate_budget")
    dense = model.count_params(), l0keras.count_macs(model)
    ones = np.ones(sum(budget.units))
    found = [cost.of_open(ones) for cost in budget.costs]
    assert found == pytest.approx(dense)
    assert budget.at_most == pytest.approx([0.9 * dense[0], 0.8 * dense[1]])
    chosen = drawn(budget.units, np.random.default_rng(2))
    with hold_gates(in_order(gated), chosen):
        small = l0keras.strip(gated, check=False)
    found = [cost.of_open(np.concatenate(chosen)) for cost in budget.costs]
    assert found == pytest.approx(
        [small.count_params(), l0keras.count_macs(small)], rel=1e-6
    )


@pytest.mark.parametrize("network", ["transformer", "recurrent"])
def test_gates_from_outside_are_stripped_and_loaded(network, tmp_path):
    rng = np.random.default_rng(0)
    model = NETWORKS[network]()
    networks.randomize(model, rng)
    gated = l0keras.sparsify(model, target=Target("units", 0.5), steps=9)
    budget = gated.get_layer("gate_budget")
    for bias in budget._biases:
        bias.assign(rng.normal(size=bias.shape))
    # As if it had been trained.
    budget.step.assign(9)
    budget.offsets.assign([3.0])
    inputs = random_inputs(model, rng)
    gated.save(tmp_path / "gated.keras")
    loaded = keras.models.load_model(tmp_path / "gated.keras")
    expected = outputs_of(gated, inputs)
    small = l0keras.strip(loaded)
    assert small.count_params() < model.count_params()
    for one, other in zip(expected, outputs_of(small, inputs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_positions_of_flat_images_have_gates():
    inputs = keras.Input((4, 4, 1))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(8, activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(3)(x))
    target = Target("params", 0.5)
    gated = l0keras.sparsify(model, target=target, steps=1)
    budget = gated.get_layer("gate_budget")
    assert budget.units == [16, 8]
    kept = [np.arange(16) < 3, np.arange(8) < 8]
    with hold_gates(in_order(gated), kept):
        small = l0keras.strip(gated)
    assert small.count_params() == (3 + 1) * 8 + (8 + 1) * 3
    # As wished, not.
    rules = {"^flat$": False}
    gated = l0keras.sparsify(model, target=target, steps=1, rules=rules)
    assert gated.get_layer("gate_budget").units == [8]


def test_layers_that_take_no_gates_from_outside_are_named():
    inputs = keras.Input((5, 3))
    x = layers.Bidirectional(layers.LSTM(4), name="both")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(ValueError, match=r"without any: .*\['both'\] get none"):
        l0keras.sparsify(model, target=Target("params", 0.5), steps=1)


def test_attention_that_is_called_twice_has_its_gates_once():
    inputs = keras.Input((5, 8))
    attention = layers.MultiHeadAttention(4, 2, name="attention")
    x = layers.LayerNormalization()(inputs + attention(inputs, inputs))
    x = layers.LayerNormalization()(x + attention(x, x))
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    gated = l0keras.sparsify(model, target=Target("params", 0.8), steps=1)
    budget = gated.get_layer("gate_budget")
    ones = np.ones(sum(budget.units))
    assert budget.costs[0].of_open(ones) == model.count_params()
    small = l0keras.cut(gated)
    assert small.count_params() <= 0.8 * model.count_params()


def test_flat_inputs_of_a_layer_that_is_called_twice_have_no_gates():
    inputs = [keras.Input((5,)), keras.Input((5,))]
    shared = layers.Dense(6, activation="relu")
    x = layers.Concatenate()([shared(one) for one in inputs])
    model = keras.Model(inputs, layers.Dense(2)(x))
    gated = l0keras.sparsify(model, target=Target("params", 0.5), steps=1)
    budget = gated.get_layer("gate_budget")
    assert budget.units == [6]
    kept = np.arange(6) < 2
    with hold_gates(in_order(gated), [kept]):
        small = l0keras.strip(gated, check=False)
    assert budget.costs[0].of_open(kept) == small.count_params()


def test_tokens_have_no_gates():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4)(inputs)
    x = layers.Dense(6, activation="relu")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    gated = l0keras.sparsify(model, target=Target("units", 0.5), steps=1)
    assert gated.get_layer("gate_budget").units == [4, 6]


def test_targets_of_layers(caplog):
    model = networks.residual()
    names = [x.name for x in model.layers if isinstance(x, layers.Conv2D)]
    target = [Target("macs", 0.5, where="conv2d"), Target("params", 0.9)]
    gated = l0keras.sparsify(model, target=target, steps=1)
    budget = gated.get_layer("gate_budget")
    macs = sum(
        np.prod(model.get_layer(name).kernel.shape) * 64 for name in names
    )
    assert budget.at_most == [0.5 * macs, 0.9 * model.count_params()]
    gated = l0keras.sparsify(
        model, target=Target("params", 0.6, each=True), steps=1
    )
    budget = gated.get_layer("gate_budget")
    assert budget.budgets == len(model.layers) - sum(
        not layer.weights for layer in model.layers
    )


def test_budgets_have_the_constants_of_the_gates():
    """And steps may be counted by numpy, as those of `tf.data` are."""
    model = networks.chain()
    gated = l0keras.sparsify(
        model,
        target=Target("units", 0.5),
        steps=np.int64(8),
        temperature=0.4,
        gamma=-0.3,
        zeta=1.2,
    )
    gates = in_order(gated)
    probs = sum(float(np.sum(gate.prob_open())) for gate in gates)
    budget = gated.get_layer("gate_budget")
    assert float(budget.expected()[0]) == pytest.approx(probs, rel=1e-6)
    assert budget.get_config()["steps"] == 8


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"target": Target("params", 0.5)}, "`steps`.*Received: steps=None"),
        ({"steps": 5}, "`steps` must be None without"),
        (
            {"target": Target("params", 0.5), "steps": 5, "l0": 0.1},
            "`l0` must be 0.0 with a `target`",
        ),
        (
            {"target": Target("params", 0.001), "steps": 5},
            r"`target` must be .* be reached.* 0\.\d\d params, of ",
        ),
        (
            {"target": Target("params", 0.5, where="none"), "steps": 5},
            "about layers with params",
        ),
        (
            {"target": Target("params", 0.5, where="^first$"), "steps": 5},
            "gates can make smaller",
        ),
        (
            {
                "target": Target("params", 0.5, where="^first$", each=True),
                "steps": 5,
            },
            "gates can make smaller",
        ),
        ({"target": 0.5, "steps": 5}, "`target` must be an l0keras"),
        (
            {"target": Target("params", 0.5), "steps": 5, "controller": "nupi"},
            "`controller` must be .* or a subclass",
        ),
        (
            {"controller": type("Other", (l0keras.GateBudget,), {})},
            "`controller` must be l0keras.GateBudget without",
        ),
    ],
)
def test_bad_targets(arguments, error):
    inputs = keras.Input((4, 4, 3))
    first = layers.Dense(3, name="first")(inputs)
    x = layers.Conv2D(5, 1, activation="relu")(inputs)
    model = keras.Model(inputs, [first, networks.head(x)])
    with pytest.raises(ValueError, match=error):
        l0keras.sparsify(model, **arguments)
