import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras import models
from tests import networks
from tests.testing import train_steps


def assert_same(model, other, inputs, atol=1e-5):
    for a, b in zip(
        networks.outputs_of(model, inputs),
        networks.outputs_of(other, inputs),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("dependence", ["forward", "backward"])
@pytest.mark.parametrize("network", networks.ALL)
def test_strip_is_exact(network, dependence):
    rng = np.random.default_rng(0)
    model = network()
    networks.randomize(model, rng)
    inputs = networks.random_inputs(model, rng)
    # Of the few gates of a small network, weights like these close some.
    gated = l0keras.sparsify(model, dependence=dependence, seed=5)
    for weight in gated.get_layer("gate_generator").trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    closed = [np.sum(g.test_gates() == 0) for g in l0keras.gates_of(gated)]
    assert sum(closed)
    stripped = l0keras.strip(gated)
    assert_same(stripped, gated, inputs)
    assert not l0keras.gates_of(stripped)
    names = [layer.name for layer in stripped.layers]
    assert "gate_generator" not in names
    assert stripped.count_params() < model.count_params()


def test_chain_is_in_the_order_of_the_network():
    model = models.vgg(((3, 1), (4, 1), (5, 1)), (8, 8, 1))
    for dependence, shapes in (
        ("forward", [(3, 3), (3, 4), (4, 5)]),
        ("backward", [(4, 3), (5, 4), (5, 5)]),
    ):
        gated = l0keras.sparsify(model, dependence=dependence)
        generator = gated.get_layer("gate_generator")
        assert generator.units == [3, 4, 5]
        kernels = {
            w.path.split("/")[-1]: tuple(w.shape)
            for w in generator.trainable_weights
        }
        assert [kernels[f"kernel_{index}"] for index in range(3)] == shapes
        histories = [
            l0keras.gates.log_alpha_of(gate._inbound_nodes[-1])._keras_history
            for gate in l0keras.gates_of(gated)
        ]
        assert [h.operation is generator for h in histories] == [True] * 3
        assert [h.tensor_index for h in histories] == [0, 1, 2]


def test_a_residual_stream_has_one_vector_of_gates():
    model = models.resnet(14, 4, input_shape=(8, 8, 3), seed=0)
    gated = l0keras.sparsify(model, dependence="forward", sample_per="example")
    # Three streams in one, as the first channels of each are those before.
    generator = gated.get_layer("gate_generator")
    assert generator.units == [16, 4, 4, 8, 8, 16, 16]
    assert len(generator._inbound_nodes) == 1


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_penalty_is_the_price_times_the_cost(cost):
    model = models.lenet5(seed=0)
    gated = l0keras.sparsify(
        model, l0=0.25, dependence="forward", cost=cost, seed=0
    )
    # Wide open, it is all that strip would leave.
    for weight in gated.get_layer("gate_generator").trainable_weights:
        weight.assign(np.full(weight.shape, 9.0))
    gated(np.zeros((1, 28, 28, 1), "float32"))
    [loss] = gated.losses
    total = (
        l0keras.count_macs(model) if cost == "macs" else model.count_params()
    )
    # Even then a gate is closed with a probability of 0.002.
    assert float(loss) == pytest.approx(0.25 * total, rel=5e-3)


def test_separate_penalty_counts_what_a_channel_frees():
    model = models.lenet5(seed=0)
    # 25 weights and a bias, and 50 x 25 weights behind; the second is behind
    # a flatten of 4 x 4 positions.
    params = [26 + 50 * 25, 20 * 25 + 1 + 16 * 500, 800 + 1 + 10]
    macs = [
        24 * 24 * 25 + 8 * 8 * 50 * 25,
        8 * 8 * 20 * 25 + 16 * 500,
        800 + 10,
    ]
    for cost, sizes in (("params", params), ("macs", macs)):
        gated = l0keras.sparsify(model, cost=cost)
        assert [g.group_size for g in l0keras.gates_of(gated)] == sizes
        gated = l0keras.sparsify(
            model, 1.0, dependence="forward", cost=cost, penalty="separate"
        )
        gates = l0keras.gates_of(gated)
        assert [g.group_size for g in gates] == sizes
        gated(np.zeros((1, 28, 28, 1), "float32"))
        expected = sum(
            size * gate.prob_open().sum()
            for size, gate in zip(sizes, gates, strict=True)
        )
        assert float(sum(gated.losses)) == pytest.approx(expected, rel=1e-5)


def test_reference_penalty():
    model = models.vgg(((3, 1), (4, 1)), (8, 8, 2))
    gated = l0keras.sparsify(
        model, 0.5, dependence="backward", penalty="reference"
    )
    gated(np.zeros((1, 8, 8, 2), "float32"))
    n, m = (gate.prob_open().sum() for gate in l0keras.gates_of(gated))
    [loss] = gated.losses
    assert float(loss) == pytest.approx(0.5 * 9 * (2 * n + n * m), rel=1e-5)


def test_joint_penalty_without_dependence():
    model = models.vgg(((3, 1), (4, 1)), (8, 8, 2))
    gated = l0keras.sparsify(model, 0.5, penalty="joint", droprate_init=0.25)
    generator = gated.get_layer("gate_generator")
    assert [w.shape for w in generator.trainable_weights] == [(3,), (4,)]
    for gate in l0keras.gates_of(gated):
        # log 3 for each.
        assert gate.prob_open() == pytest.approx(0.937, abs=0.003)
    gated(np.zeros((1, 8, 8, 2), "float32"))
    n, m = (gate.prob_open().sum() for gate in l0keras.gates_of(gated))
    expected = 9 * 2 * n + 9 * n * m + 4 * (n + m) + 10 * m + 10
    assert float(sum(gated.losses)) == pytest.approx(0.5 * expected, rel=1e-5)


def test_trains_saves_and_loads(tmp_path):
    model = models.resnet(8, 4, input_shape=(8, 8, 3), seed=0)
    gated = l0keras.sparsify(model, 1e-5, dependence="forward", seed=0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 3)).astype("float32")
    train_steps(gated, x, np.zeros((8, 10), "float32"), steps=2)
    gated.save(tmp_path / "gated.keras")
    loaded = keras.models.load_model(tmp_path / "gated.keras")
    np.testing.assert_array_equal(loaded(x), gated(x))
    gates = zip(l0keras.gates_of(loaded), l0keras.gates_of(gated), strict=True)
    for gate, other in gates:
        np.testing.assert_array_equal(gate.test_gates(), other.test_gates())
    stripped = l0keras.strip(loaded)
    np.testing.assert_allclose(stripped(x), gated(x), atol=1e-5)


def test_rules_and_seeds():
    model = models.vgg(((3, 1), (4, 1), (5, 1)), (8, 8, 1))

    def gated(seed):
        return l0keras.sparsify(
            model,
            1e-3,
            {"block2": False, "block3": {"sample_per": "example"}},
            dependence="forward",
            seed=seed,
        )

    one, same, other = (gated(seed) for seed in (1, 1, 2))
    assert one.get_layer("gate_generator").units == [3, 5]
    gates = l0keras.gates_of(one)
    assert [g.sample_per for g in gates] == ["batch", "example"]
    x = np.ones((2, 8, 8, 1), "float32")
    np.testing.assert_array_equal(one(x, training=True), same(x, training=True))
    assert np.any(one(x) != other(x))


def test_gates_inside_layers_stay_by_themselves():
    inputs = keras.Input((6, 3))
    x = layers.Dense(4)(inputs)
    x = layers.LSTM(5)(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    gated = l0keras.sparsify(model, 0.1, dependence="forward")
    assert gated.get_layer("gate_generator").units == [4]
    assert gated.get_layer(model.layers[2].name).gate.l0 == 0.1


def test_the_models_weights_are_not_touched():
    model = models.lenet5(seed=0)
    before = model.get_weights()
    gated = l0keras.sparsify(model, 0.1, dependence="forward")
    train_steps(
        gated,
        np.ones((2, 28, 28, 1), "float32"),
        np.ones((2, 10), "float32"),
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"dependence": "both"}, "`dependence`.*forward.*backward.*'both'"),
        ({"cost": "flops"}, "`cost`.*params.*macs.*'flops'"),
        ({"penalty": "sum"}, "`penalty`.*separate.*joint.*reference.*'sum'"),
        (
            {"dependence": "forward", "log_alpha_limit": 3.0},
            "`log_alpha_limit` in sparsify",
        ),
        (
            {"dependence": "forward", "rules": {"conv1": {"l0": 0.1}}},
            "`l0` in 'conv1'",
        ),
        (
            {"penalty": "joint", "rules": {"conv1": {"zeta": 1.2}}},
            "`zeta` in 'conv1'",
        ),
        (
            {"dependence": "forward", "rules": {".*": False}},
            "`model` must have channels to gate",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        l0keras.sparsify(models.lenet5(), **arguments)


def test_macs_need_fixed_shapes():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3)(inputs)
    outputs = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match="must have fixed shapes"):
        l0keras.sparsify(model, 0.1, dependence="forward", cost="macs")
