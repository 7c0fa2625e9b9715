import logging

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras import SharedGate
from l0keras.targets import Target
from tests import networks
from tests.testing import train_steps


def close_half(model, rng):
    for gate in l0keras.gates_of(model):
        shape = gate.log_alpha.shape
        values = rng.uniform(-2.0, 4.0, shape)
        shut = rng.random(shape) < 0.5
        gate.log_alpha.assign(np.where(shut, -5.0, values))


def assert_same(model, other, inputs, atol=1e-5):
    for a, b in zip(
        networks.outputs_of(model, inputs),
        networks.outputs_of(other, inputs),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("network", networks.ALL)
def test_open_gates_change_nothing(network):
    rng = np.random.default_rng(0)
    model = network()
    networks.randomize(model, rng)
    inputs = networks.random_inputs(model, rng)
    gated = l0keras.sparsify(model)
    assert_same(gated, model, inputs, atol=1e-6)
    names = {layer.name for layer in gated.layers}
    if network is not networks.nested:
        assert {layer.name for layer in model.layers} <= names


@pytest.mark.parametrize("network", networks.ALL)
def test_closed_gates_cut_what_made_and_what_read_them(network):
    rng = np.random.default_rng(1)
    model = network()
    networks.randomize(model, rng)
    inputs = networks.random_inputs(model, rng)
    gated = l0keras.sparsify(model)
    close_half(gated, rng)
    stripped = l0keras.strip(gated)
    assert_same(stripped, gated, inputs)
    assert not l0keras.gates_of(stripped)
    # Without a gate's unit, nothing else needs it: widths are open gates.
    open_units = {
        gate.name: gate.count_open()
        for gate in gated.layers
        if isinstance(gate, l0keras.HardConcreteGate)
    }
    for group in l0keras.channel_groups(stripped):
        name = f"{group.name}_gate"
        if name in open_units and not group.fixed:
            assert group.size <= max(open_units[name], 1)
    again = l0keras.strip(stripped)
    assert again.count_params() == stripped.count_params()
    assert len(again.layers) == len(stripped.layers)


def test_the_callers_model_is_untouched():
    rng = np.random.default_rng(0)
    model = networks.squeeze_excite()
    networks.randomize(model, rng)
    weights = model.get_weights()
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    gated = l0keras.sparsify(model, l0=1e-3)
    inputs = networks.random_inputs(model, rng)
    train_steps(gated, inputs, rng.normal(size=(3, 4)), steps=2)
    close_half(gated, rng)
    l0keras.strip(gated)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert calls == [len(layer._inbound_nodes) for layer in model.layers]
    assert not set(map(id, model.layers)) & set(map(id, gated.layers))


def test_one_sample_a_step_for_a_whole_residual_stream():
    """All readers of a stream see the same channels closed."""
    model = networks.residual()
    gated = l0keras.sparsify(model, droprate_init=0.5)
    (gate,) = [g for g in gated.layers if isinstance(g, SharedGate)]
    reads = [
        layer
        for layer in gated.layers
        if isinstance(layer, (layers.Conv2D, layers.Dense))
        and layer.input.shape[-1] == gate.units
    ]
    assert len(reads) == 3
    probe = keras.Model(gated.input, [layer.input for layer in reads])
    inputs = networks.random_inputs(model, np.random.default_rng(0))
    shut = []
    for array in probe(inputs, training=True):
        array = keras.ops.convert_to_numpy(array)
        axes = tuple(range(array.ndim - 1))
        shut.append(np.all(array == 0, axis=axes))
    assert np.any(shut[0])
    # A channel may be 0 after ReLU by chance, not the other way round.
    closed = np.all(shut, axis=0)
    assert np.any(closed) and np.any(~closed)


@pytest.mark.parametrize("sample_per", ["batch", "example"])
def test_gated_models_train_save_and_load(sample_per, tmp_path):
    rng = np.random.default_rng(0)
    model = networks.squeeze_excite()
    networks.randomize(model, rng)
    gated = l0keras.sparsify(model, l0=1e-3, sample_per=sample_per, seed=3)
    inputs = networks.random_inputs(model, rng)
    before = [g.log_alpha.numpy() for g in l0keras.gates_of(gated)]
    train_steps(gated, inputs, rng.normal(size=(3, 4)), steps=2)
    for gate, old in zip(l0keras.gates_of(gated), before, strict=True):
        assert np.any(gate.log_alpha.numpy() != old)
        assert gate.sample_per == sample_per
    gated.save(tmp_path / "gated.keras")
    loaded = keras.saving.load_model(tmp_path / "gated.keras")
    assert_same(loaded, gated, inputs, atol=1e-6)
    close_half(loaded, rng)
    assert_same(l0keras.strip(loaded), loaded, inputs)


def test_mixed_precision_keeps_its_dtypes():
    rng = np.random.default_rng(0)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = networks.residual()
    finally:
        keras.config.set_dtype_policy(policy)
    gated = l0keras.sparsify(model)
    assert [x.dtype for x in gated.outputs] == [x.dtype for x in model.outputs]
    assert all(g.log_alpha.dtype == "float32" for g in l0keras.gates_of(gated))
    close_half(gated, rng)
    inputs = networks.random_inputs(model, rng)
    assert_same(l0keras.strip(gated), gated, inputs, atol=0.05)


def test_rules_pick_skip_and_tune():
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="relu", name="one")(inputs)
    x = layers.Dense(4, activation="relu", name="two")(x)
    x = layers.Dense(3, activation="relu", name="three")(x)
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))

    def gates(rules, **arguments):
        gated = l0keras.sparsify(model, rules=rules, **arguments)
        return {g.name: g.l0 for g in l0keras.gates_of(gated)}

    assert gates(None, l0=0.5) == {
        "one_gate": 0.5,
        "two_gate": 0.5,
        "three_gate": 0.5,
    }
    assert gates({"^t": {"l0": 2.0}, "one": False}) == {
        "two_gate": 2.0,
        "three_gate": 2.0,
    }
    assert gates({"two": True, ".": False}, l0=0.5) == {"two_gate": 0.5}
    # The first that matches decides.
    assert gates({"o": False, "two": {"l0": 1.0}}) == {"three_gate": 0.0}


def test_seeds_differ_and_repeat():
    model = networks.residual()
    first, second = (
        [g.log_alpha.numpy() for g in l0keras.gates_of(gated)]
        for gated in (l0keras.sparsify(model, seed=1) for _ in range(2))
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    sizes = [len(a) for a in first]
    same = [i for i, size in enumerate(sizes) if size == 4]
    assert np.any(first[same[0]] != first[same[1]])


def test_units_and_heads_get_gates_inside():
    model = networks.sequence()
    gated = l0keras.sparsify(model, l0=0.5, rules={"^gru": False})
    kinds = {x.name: type(x) for x in gated.layers}
    (lstm,) = [n for n, kind in kinds.items() if kind is l0keras.layers.L0LSTM]
    assert gated.get_layer(lstm).gate.l0 == 0.5
    assert layers.GRU in kinds.values()
    gated = l0keras.sparsify(networks.transformer(), l0=0.5, seed=1)
    one, two = [
        x
        for x in gated.layers
        if isinstance(x, l0keras.layers.L0MultiHeadAttention)
    ]
    assert one.gate.log_alpha.shape == (4,)
    assert np.any(one.gate.log_alpha.numpy() != two.gate.log_alpha.numpy())
    one.gate.log_alpha.assign([5.0, -5.0, -5.0, 5.0])
    stripped = l0keras.strip(gated)
    assert stripped.get_layer(one.name).num_heads == 2


@pytest.mark.parametrize(
    "arguments", [{"l0": 0.1}, {"target": Target("units", 0.5), "steps": 3}]
)
def test_gates_of_frozen_models_learn(arguments):
    model = networks.chain()
    model.trainable = False
    gated = l0keras.sparsify(model, **arguments)
    assert gated.trainable_variables
    assert not any(gated.get_layer(x.name).trainable for x in model.layers)
    gated.compile("sgd", "mse")
    gated.fit(np.ones((4, 8, 8, 3)), np.ones((4, 4)), verbose=0)
    if "target" in arguments:
        assert int(gated.get_layer("gate_budget").step) == 1


def test_frozen_layers_stay_frozen():
    model = networks.chain()
    model.layers[1].trainable = False
    gated = l0keras.sparsify(model)
    assert not gated.get_layer(model.layers[1].name).trainable
    assert gated.get_layer(model.layers[2].name).trainable


def test_the_log_says_what_got_no_gates(caplog):
    with caplog.at_level(logging.INFO, logger="l0keras.placement.sparsify"):
        l0keras.sparsify(networks.chain())
    assert "an output of the model" in caplog.text
    assert "gated" in caplog.text


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"l0": -1.0}, "`l0` must be at least 0"),
        ({"droprate_init": 1.0}, "`droprate_init` must lie in"),
        ({"granularity": "input"}, "Unknown argument `granularity`"),
        ({"rules": ["conv"]}, "`rules` must be a dictionary"),
        ({"rules": {"(": False}}, "must be a regular expression"),
        ({"rules": {"nothing": False}}, "must match the name of a layer"),
        ({"rules": {".": "yes"}}, "must be True, False or a dictionary"),
        ({"rules": {".": {"l1": 0.1}}}, "Unknown argument `l1`"),
        ({"rules": {".": {"l0": -0.1}}}, "`l0` must be at least 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        l0keras.sparsify(networks.chain(), **arguments)


def test_subclassed_and_unbuilt_models_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="must be Sequential or functional"):
        l0keras.sparsify(Own())
    with pytest.raises(ValueError, match="must be built"):
        l0keras.sparsify(keras.Sequential([layers.Dense(3)]))


def test_a_mask_that_gates_in_several_places_would_drop_stays():
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(4, 6, mask_zero=True)(inputs)
    parts = [
        keras.layers.MultiHeadAttention(2, 3)(y, y)
        for y in (x, keras.layers.Dropout(0.1)(x))
    ]
    model = keras.Model(inputs, parts)
    x = np.array([[1, 2, 0, 0, 0], [3, 1, 2, 0, 0]], "int32")
    for one, other in zip(
        model(x), l0keras.sparsify(model)(x, training=False), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
