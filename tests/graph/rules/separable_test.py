import keras
import numpy as np
import pytest
from keras import layers

from l0keras import HardConcreteGate
from l0keras.stripping.plan import plan
from tests.graph.rules import checks

RANKS = {1: (8, 3), 2: (7, 6, 3)}
WAYS = [
    {},
    {"depth_multiplier": 3},
    {"depth_multiplier": 2, "padding": "same"},
    {"kernel_size": 1, "depth_multiplier": 2, "padding": "same"},
    {"strides": 2, "activation": "sigmoid", "depth_multiplier": 2},
    {"use_bias": False, "activation": "relu"},
]


def chain(rank, data_format="channels_last", **arguments):
    shape = RANKS[rank]
    if data_format == "channels_first":
        shape = (shape[-1], *shape[:-1])
    conv = getattr(layers, f"Conv{rank}D")
    separable = getattr(layers, f"SeparableConv{rank}D")
    arguments = {
        "kernel_size": 3,
        "data_format": data_format,
        **arguments,
    }
    return keras.Sequential(
        [
            keras.Input(shape),
            conv(6, 1, data_format=data_format, name="before"),
            separable(5, name="separable", **arguments),
            conv(4, 1, data_format=data_format, name="all_after"),
        ]
    )


def close_parts(model):
    layer = model.get_layer("separable")
    depthwise = checks.to_numpy(layer.depthwise_kernel).copy()
    pointwise = checks.to_numpy(layer.pointwise_kernel).copy()
    depthwise[..., 3, :] = 0.0
    pointwise[..., [0, 2]] = 0.0
    layer.depthwise_kernel.assign(depthwise)
    layer.pointwise_kernel.assign(pointwise)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_is_exact_and_cut(rank, way, tmp_path):
    rng = np.random.default_rng(rank)
    model = chain(rank, **way)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4])
    close_parts(model)
    stripped = checks.check(model, rng, tmp_path)
    layer = stripped.get_layer("separable")
    multiplier = way.get("depth_multiplier", 1)
    assert layer.depthwise_kernel.shape[-2:] == (3, multiplier)
    assert layer.pointwise_kernel.shape[-2:] == (3 * multiplier, 3)
    assert stripped.get_layer("before").filters == 3


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no channels_first convolutions on CPUs",
)
@pytest.mark.parametrize("rank", [1, 2])
def test_channels_first(rank):
    rng = np.random.default_rng(rank)
    model = chain(rank, "channels_first", depth_multiplier=2)
    checks.randomize(model, rng, closed=0.0)
    close_parts(model)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters == 5


def test_the_multiplier_shrinks_where_no_input_needs_all_maps():
    rng = np.random.default_rng(0)
    model = chain(2, depth_multiplier=3)
    checks.randomize(model, rng, closed=0.0)
    layer = model.get_layer("separable")
    depthwise = checks.to_numpy(layer.depthwise_kernel).copy()
    pointwise = checks.to_numpy(layer.pointwise_kernel).copy()
    for channel in range(6):
        depthwise[..., channel, channel % 3] = 0.0
    # One of two maps that are left, in every input but the last.
    for channel in range(5):
        pointwise[..., 3 * channel + (channel + 1) % 3, :] = 0.0
    layer.depthwise_kernel.assign(depthwise)
    layer.pointwise_kernel.assign(pointwise)
    stripped = checks.check(model, rng)
    layer = stripped.get_layer("separable")
    assert layer.depth_multiplier == 2
    assert layer.pointwise_kernel.shape == (1, 1, 12, 5)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_constants_are_folded_but_at_borders(padding):
    rng = np.random.default_rng(0)
    model = chain(2, padding=padding, depth_multiplier=2)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4], bias=-2.0)
    stripped = checks.check(model, rng)
    left = {"valid": 4, "same": 6}[padding]
    assert stripped.get_layer("before").filters == left


def test_all_closed_is_a_constant():
    rng = np.random.default_rng(0)
    model = chain(1)
    checks.randomize(model, rng, closed=0.0)
    layer = model.get_layer("separable")
    layer.depthwise_kernel.assign(np.zeros(layer.depthwise_kernel.shape))
    stripped = checks.check(model, rng)
    assert stripped.get_layer("separable").filters == 1


def test_gates_move_into_the_kernels():
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 1, activation="sigmoid", name="conv")(inputs)
    x = HardConcreteGate(name="forth")(x)
    x = layers.SeparableConv2D(
        5, 3, depth_multiplier=2, activation="relu", name="separable"
    )(x)
    x = HardConcreteGate(name="back")(x)
    x = layers.Conv2D(2, 1, activation="relu", name="all_after")(x)
    model = keras.Model(inputs, x)
    checks.randomize(model, rng, closed=0.0)
    model.get_layer("forth").log_alpha.assign([-5.0, 0.0, 0.5, 4.0])
    model.get_layer("back").log_alpha.assign([0.0, 0.5, -5.0, -5.0, 4.0])
    stripped = checks.check(model, rng)
    assert len(stripped.layers) == 4
    layer = stripped.get_layer("separable")
    assert layer.pointwise_kernel.shape == (1, 1, 6, 3)


def test_weights_are_priced_as_they_are():
    model = chain(2, depth_multiplier=2)
    node = {node.name: node for node in plan(model).nodes}["separable"]
    sizes = [
        count * int(np.prod([len(channels) for _, channels in axes]))
        for count, axes in node.rule.weights(node)
    ]
    layer = model.get_layer("separable")
    assert sizes == [int(np.prod(weight.shape)) for weight in layer.weights]
