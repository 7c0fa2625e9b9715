import keras
import numpy as np
import pytest

import l0keras
from trainers.run import networks
from trainers.run.config import Config
from trainers.run.networks import build
from trainers.run.networks import build_plain

SHAPE = (32, 32, 3)


def test_price_and_decay_are_divided_by_the_examples():
    config = Config(model="mlp", l0_lambda=(0.6,), weight_decay=(1, 2, 3))
    gates = l0keras.gates_of(build(config, (8, 8, 1), 10, 100))
    assert [gate.l0 for gate in gates] == pytest.approx([0.006] * 3)
    assert [gate.l2 for gate in gates] == pytest.approx([0.01, 0.02, 0.03])
    # The authors' drop rates unless told otherwise.
    assert [gate.droprate_init for gate in gates] == [0.2, 0.5, 0.5]


def test_settings_reach_the_gates():
    config = Config(
        model="mlp", droprate_init=(0.1,), sample_per="example", seed=5
    )
    gates = l0keras.gates_of(build(config, (8, 8, 1), 10, 100))
    assert {gate.droprate_init for gate in gates} == {0.1}
    assert {gate.sample_per for gate in gates} == {"example"}


def test_dense_method_has_no_gates():
    config = Config(model="mlp", method="dense", weight_decay=(2.0,))
    model = build(config, (8, 8, 1), 10, 100)
    assert l0keras.gates_of(model) == []
    assert len(model.losses) == 6
    assert build_plain(config, (8, 8, 1), 10).losses == []


def test_every_network_is_built_by_its_name():
    sizes = {}
    for name in networks.NETWORKS:
        config = Config(model=name, method="dense")
        # Rows of a picture in colours are no steps.
        shape = (28, 28, 1) if name == "lstm" else SHAPE
        model = build_plain(config, shape, 10)
        assert model.output_shape == (None, 10)
        sizes[name] = model.count_params()
    assert sizes["resnet8"] < sizes["resnet20"] < sizes["resnet56"] < 1e6
    assert sizes["wrn_10_1"] < sizes["wrn_16_4"] < 3e6
    assert 36e6 < sizes["wrn_28_10"] < 37e6
    assert sizes["cifar_cnn"] == 1_756_426
    assert sizes["lstm"] == 4 * 128 * (28 + 128 + 1) + 129 * 10


def test_sequences_have_a_class_for_each_step():
    config = Config(model="lstm", method="dense", weight_decay=(0.5,))
    model = build(config, (100, 39), 39, 1000)
    assert model.output_shape == (None, 100, 39)
    assert model.count_params() == 4 * 200 * (39 + 200 + 1) + 201 * 39
    # Of the three kernels, not of the biases.
    assert len(model.losses) == 3
    kernel = model.get_layer("logits").kernel
    expected = 0.25 * np.sum(np.square(kernel))
    assert float(kernel.regularizer(kernel)) == pytest.approx(expected)


def test_networks_for_images_refuse_sequences():
    config = Config(model="mlp", method="dense")
    with pytest.raises(ValueError, match="`model` must be lstm .*model=mlp"):
        build(config, (100, 39), 39, 1000)


def test_decay_of_networks_without_layers_of_their_own_is_not_divided():
    config = Config(model="resnet8", method="dense", weight_decay=(5e-4,))
    model = build(config, SHAPE, 10, 50_000)
    kernel = model.get_layer("logits").kernel
    expected = 0.5 * 5e-4 * np.sum(np.square(kernel))
    assert float(kernel.regularizer(kernel)) == pytest.approx(expected)


def test_gates_are_found_where_no_paper_says_so():
    config = Config(
        model="resnet18",
        method="l0",
        l0_lambda=(3.0,),
        droprate_init=(0.2,),
        sample_per="example",
    )
    gates = l0keras.gates_of(build(config, SHAPE, 10, 100))
    assert len(gates) > 8
    assert {gate.l0 for gate in gates} == {0.03}
    assert {gate.droprate_init for gate in gates} == {0.2}
    assert {gate.sample_per for gate in gates} == {"example"}


def test_normalizes_by_itself():
    config = Config(model="mlp", seed=3)
    statistics = ([0.5, 0.25], [0.1, 0.2])
    model = build(config, (4, 4, 2), 10, 100, statistics)
    plain = build(config, (4, 4, 2), 10, 100)
    images = np.random.default_rng(0).random((3, 4, 4, 2), "float32")
    normalized = (images - np.array([0.5, 0.25])) / np.array([0.1, 0.2])
    expected = plain.predict(normalized, verbose=0)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-5
    )
    assert model.count_params() == plain.count_params()
    assert l0keras.architecture(model) == l0keras.architecture(plain)
    for gate in l0keras.gates_of(model):
        gate.log_alpha.assign(np.linspace(-4, 4, gate.log_alpha.shape[0]))
    small = l0keras.strip(model)
    assert small.count_params() < 0.7 * model.count_params()
    np.testing.assert_allclose(
        small.predict(images, verbose=0),
        model.predict(images, verbose=0),
        rtol=1e-4,
        atol=1e-4,
    )
    assert isinstance(small, keras.Model)
