"""What all plain convolutional networks have in common."""

import importlib

import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras import models
from tests import networks


def small_wide_resnet(**kwargs):
    arguments = {"depth": 10, "width": 1, "dropout": 0.1, **kwargs}
    return models.wide_resnet(**{"input_shape": (8, 8, 3), **arguments})


def small_resnet(**kwargs):
    return models.resnet(8, **{"input_shape": (8, 8, 3), **kwargs})


def small_densenet(**kwargs):
    return models.densenet(10, 4, **{"input_shape": (8, 8, 3), **kwargs})


def small_mobilenet_v1(**kwargs):
    return models.mobilenet_v1(1 / 8, **{"input_shape": (16, 16, 3), **kwargs})


def narrow_vgg(**kwargs):
    stages = ((4, 2), (6, 2), (8, 3), (8, 3), (8, 3))
    return models.vgg(stages, **kwargs)


def narrow_resnet18(**kwargs):
    return models.resnet18(**{"input_shape": (8, 8, 3), **kwargs})


def narrow_resnet50(**kwargs):
    small = {"input_shape": (32, 32, 3), "classes": 10}
    return models.resnet50(**{**small, **kwargs})


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Fewer channels for the networks that have no argument for it."""
    for name in ("resnet18", "resnet50"):
        # `l0keras.models.resnet18` is the function, not the module.
        module = importlib.import_module(f"l0keras.models.{name}")
        monkeypatch.setattr(module, "_FILTERS", 4)


all_networks = pytest.mark.parametrize(
    "network",
    [
        small_wide_resnet,
        small_resnet,
        small_densenet,
        small_mobilenet_v1,
        narrow_vgg,
        narrow_resnet18,
        narrow_resnet50,
    ],
)


@all_networks
def test_closed_channels_are_cut_and_change_nothing(network):
    rng = np.random.default_rng(0)
    model = network(seed=1)
    networks.move_normalization(model, rng)
    gated = l0keras.sparsify(model)
    networks.close_half(gated, rng)
    stripped = l0keras.strip(gated)
    inputs = networks.random_inputs(model, rng)
    expected, got = (
        networks.outputs_of(one, inputs)[0] for one in (gated, stripped)
    )
    assert expected.std() > 1e-3
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    # Every convolution that makes channels lost the closed ones.
    full = {layer.name: layer for layer in model.layers}
    cut = {
        layer.name: layer
        for layer in stripped.layers
        if type(layer) is keras.layers.Conv2D
    }
    for name, layer in cut.items():
        assert layer.filters <= full[name].filters // 2 + 1, name
    assert l0keras.gates_of(stripped) == []
    gates = {gate.name: gate for gate in l0keras.gates_of(gated)}
    checked = 0
    for name, layer in cut.items():
        gate = gates.get(f"{name}_gate")
        if gate and gate.log_alpha.shape[0] == full[name].filters:
            assert layer.filters == gate.count_open()
            checked += 1
    assert checked >= 3


@all_networks
def test_seed_fixes_all_weights_and_tells_layers_apart(network):
    first, same, other = (network(seed=seed) for seed in (1, 1, 2))
    names = [layer.name for layer in first.layers]
    assert names == [layer.name for layer in same.layers]
    for a, b in zip(first.weights, same.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    kernels, others = (
        [w.numpy() for w in model.weights if "kernel" in w.path]
        for model in (first, other)
    )
    assert not any(
        np.array_equal(a, b) for a, b in zip(kernels, others, strict=True)
    )
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


@all_networks
def test_without_a_seed_weights_follow_the_seed_of_keras(network):
    one, other = network(), network()
    assert not np.array_equal(one.weights[0], other.weights[0])


@all_networks
def test_decay_of_all_trainable_weights(network):
    model = network(l2=0.3, seed=0)
    networks.move_normalization(model, np.random.default_rng(0))
    squares = sum(
        float(ops.sum(ops.square(weight)))
        for weight in model.trainable_weights
        if "depthwise" not in weight.path
    )
    penalty = sum(float(loss) for loss in model.losses)
    assert penalty == pytest.approx(0.5 * 0.3 * squares, rel=1e-5)
    assert network().losses == []


@all_networks
def test_logits_of_so_many_classes(network):
    model = network(classes=7)
    assert model.output_shape == (None, 7)
    assert model.layers[-1].activation is keras.activations.linear
    assert model.layers[-1].name == "logits"


@all_networks
def test_initial_weights_keep_the_size_of_activations(network):
    model = network(seed=0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            fan_in = 9
        elif isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            fan_in = np.prod(layer.kernel.shape[:-1])
        else:
            continue
        kernel = layer.kernel.numpy()
        expected = (2 / fan_in) ** 0.5
        # Five standard errors of a normal sample's standard deviation.
        tolerance = 5 / (2 * kernel.size) ** 0.5
        assert kernel.std() == pytest.approx(expected, rel=tolerance)
        assert getattr(layer, "use_bias") == (layer.name == "logits")


@pytest.mark.parametrize("network", [small_resnet, narrow_resnet18])
def test_odd_sizes(network):
    assert network(input_shape=(9, 13, 1)).output_shape == (None, 10)


@all_networks
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"l2": -0.1}, "`l2` must be at least 0.*l2=-0.1"),
        ({"seed": -1}, "`seed` must be an integer of at least 0.*seed=-1"),
        ({"classes": 0}, "`classes` must be an integer of at l.*classes=0"),
        ({"classes": 2.0}, "`classes` must be an integer.*classes=2.0"),
        ({"input_shape": (32, 32)}, "`input_shape` must be .height, width"),
        ({"input_shape": (0, 32, 3)}, "at least .* pixels.*=.0, 32, 3"),
        ({"input_shape": (32, None, 3)}, "Received: input_shape=.32, None"),
    ],
)
def test_wrong_arguments_are_refused(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        network(**arguments)
