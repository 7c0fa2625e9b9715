"""The networks with gates where Dep-L0's authors put them."""

import keras
import numpy as np
import pytest

import l0keras
from l0keras import models
from tests import networks

VGG = ((4, 2), (6, 1), (8, 1))
SMALL = {
    "vgg": lambda **a: models.vgg(VGG, (8, 8, 3), **a),
    "resnet": lambda **a: models.resnet(14, 4, (8, 8, 3), **a),
    "resnet50": lambda **a: models.resnet50((32, 32, 3), 5, **a),
}
# Those whose many layers take their time are built a few times only.
NETWORKS = [*SMALL][:2] + [pytest.param("resnet50", marks=pytest.mark.slow)]


def generator_of(model):
    return model.get_layer("gate_generator")


def trained(layer):
    """How many parameters a layer trains."""
    return sum(int(np.prod(v.shape)) for v in layer.trainable_variables)


def behind(model):
    """For each gate the name of the layer that it reads."""
    return [
        gate.input[0]._keras_history.operation.name
        for gate in sorted(l0keras.gates_of(model), key=model.layers.index)
    ]


def readers(model, name):
    return {
        node.operation.name
        for node in model.get_layer(name)._outbound_nodes
        if node.operation in model.layers
    }


@pytest.mark.parametrize(
    "dependence, parameters", [("forward", 1.64e6), ("backward", 1.67e6)]
)
def test_vgg16(dependence, parameters):
    model = models.vgg16(gates="paper", dependence=dependence)
    widths = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert generator_of(model).units == widths
    assert generator_of(model).inputs == 64
    count = trained(generator_of(model))
    assert count == pytest.approx(parameters, rel=2e-3)
    assert len(behind(model)) == 13
    assert all("_norm" in name for name in behind(model))
    assert readers(model, "block1_norm1_gate") == {"block1_relu1"}


@pytest.mark.parametrize(
    "dependence, parameters", [("forward", 47e3), ("backward", 51e3)]
)
def test_resnet56(dependence, parameters):
    model = models.resnet(56, gates="paper", dependence=dependence)
    generator = generator_of(model)
    assert generator.units == [16] * 10 + [32] * 9 + [64] * 9
    assert trained(generator) == pytest.approx(parameters, rel=4e-3)
    assert behind(model)[:3] == [
        "stem_relu",
        "block1_1_relu1",
        "block1_2_relu1",
    ]
    assert readers(model, "block1_1_relu1_gate") == {"block1_1_conv2"}
    assert readers(model, "stem_relu_gate") == {
        "block1_1_conv1",
        "block1_1_add",
    }


def test_resnet50():
    model = models.resnet50(
        (32, 32, 3), gates="paper", dependence="forward", penalty="reference"
    )
    generator = generator_of(model)
    expected = [64] * 7 + [128] * 8 + [256] * 12 + [512] * 6
    assert generator.units == expected
    assert trained(generator) == pytest.approx(2.35e6, rel=5e-3)
    assert behind(model)[:3] == [
        "stem_relu",
        "block1_1_norm1",
        "block1_1_norm2",
    ]
    assert readers(model, "stem_relu_gate") == {"stem_pool_pad"}
    assert readers(model, "block1_1_norm2_gate") == {"block1_1_relu2"}


@pytest.mark.parametrize(
    "network, weights",
    [
        # 3 * 64 * 9 + 64 * 64 * 9 + ...: all convolutions of VGG16.
        (models.vgg16, 14_710_464),
        # The stem and the first convolution of each block, if each read the
        # gated layer before it.
        (models.resnet, 412_848),
    ],
)
def test_reference_penalty_at_full_density(network, weights):
    model = network(gates="paper", l0=1e-6, penalty="reference")
    penalty = generator_of(model).penalty
    full = [np.ones(size, "float32") for size in generator_of(model).units]
    assert float(penalty.cost(full)) == weights
    # Of the L0 norm the paper's loss has lambda times as much.
    model(np.zeros((1, 32, 32, 3), "float32"))
    assert float(sum(model.losses)) == pytest.approx(1e-6 * weights, rel=0.05)


@pytest.mark.parametrize("cost", ["params", "macs"])
@pytest.mark.parametrize("network", NETWORKS)
def test_joint_penalty_counts_what_is_left(network, cost):
    rng = np.random.default_rng(3)
    model = SMALL[network](gates="paper", l0=1.0, cost=cost)
    generator = generator_of(model)
    gates = sorted(l0keras.gates_of(model), key=model.layers.index)
    for weight, gate in zip(generator.trainable_weights, gates, strict=True):
        shut = rng.random(weight.shape) < 0.4
        # What is added up needs the stem's channels, even if they are zero.
        shut[0 if gate is not gates[0] else slice(None)] = False
        weight.assign(np.where(shut, -4.5, 4.5))
    opened = [np.float32(gate.test_gates() > 0) for gate in gates]
    left = l0keras.strip(model)
    expected = (
        left.count_params() if cost == "params" else l0keras.count_macs(left)
    )
    assert float(generator.penalty.cost(opened)) == pytest.approx(expected)


@pytest.mark.parametrize("dependence", [None, "forward", "backward"])
@pytest.mark.parametrize("network", NETWORKS)
def test_strip_is_exact(network, dependence):
    rng = np.random.default_rng(0)
    model = SMALL[network](gates="paper", dependence=dependence, seed=0)
    plain = SMALL[network](seed=0)
    networks.move_normalization(model, rng)
    for weight in generator_of(model).trainable_weights:
        weight.assign(rng.normal(0.5, 2.0, weight.shape))
    stripped = l0keras.strip(model)
    assert stripped.count_params() < plain.count_params()
    assert not l0keras.gates_of(stripped)
    images = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    outputs = np.array(model(images))
    np.testing.assert_allclose(
        stripped(images), outputs, atol=1e-5 * np.abs(outputs).max()
    )


def test_same_weights_as_the_plain_network():
    plain = models.vgg(VGG, (8, 8, 3), l2=0.1, seed=4)
    gated = models.vgg(VGG, (8, 8, 3), gates="paper", l2=0.1, seed=4)
    for layer in plain.layers:
        for one, other in zip(
            layer.weights, gated.get_layer(layer.name).weights, strict=True
        ):
            np.testing.assert_array_equal(one, other)
    gated(np.zeros((1, 8, 8, 3), "float32"))
    plain(np.zeros((1, 8, 8, 3), "float32"))
    assert float(sum(gated.losses)) == pytest.approx(float(sum(plain.losses)))


def test_one_sample_for_each_example_by_default():
    model = models.vgg(VGG, (8, 8, 3), gates="paper", seed=0)
    assert {g.sample_per for g in l0keras.gates_of(model)} == {"example"}
    seeds = {g.seed for g in l0keras.gates_of(model)}
    assert len(seeds) == 4


@pytest.mark.parametrize("network", SMALL)
def test_wrong_arguments(network):
    make = SMALL[network]
    with pytest.raises(ValueError, match="`gates`.*'paper'.*'all'"):
        make(gates="all")
    with pytest.raises(ValueError, match="`l0` must be 0 without gates"):
        make(l0=0.1)
    with pytest.raises(ValueError, match="`dependence` must be None without"):
        make(dependence="forward")
    with pytest.raises(ValueError, match="`dependence`.*'sideways'"):
        make(gates="paper", dependence="sideways")
    with pytest.raises(ValueError, match="`penalty`.*'separate'"):
        make(gates="paper", penalty="separate")
    with pytest.raises(ValueError, match="`cost`.*'flops'"):
        make(gates="paper", cost="flops")


def test_save_and_load(tmp_path):
    model = models.vgg(
        VGG, (8, 8, 3), gates="paper", l0=1e-4, dependence="backward"
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    np.testing.assert_array_equal(loaded(images), model(images))
    assert float(loaded.losses[0]) == float(model.losses[0])
