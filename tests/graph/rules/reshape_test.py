import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from l0keras import HardConcreteGate
from l0keras.stripping.plan import plan
from tests import covering
from tests.graph.rules import checks


def build(shape, *steps):
    x = inputs = keras.Input(shape)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


def unread(layer, channels):
    kernel = checks.to_numpy(layer.kernel).copy()
    kernel[..., channels, :] = 0.0
    layer.kernel.assign(kernel)


def close_maps(layer, maps, count, bias=0.0):
    """Closes all units that become part of some of `count` maps."""
    units = np.arange(layer.bias.shape[0])
    checks.close(layer, units[np.isin(units % count, maps)], bias)


UNFLATTEN = [
    layers.Reshape((3, 2, 4)),
    layers.Reshape((3, 2, -1)),
    layers.Reshape((-1, 2, 4)),
    lambda x: ops.reshape(x, (-1, 3, 2, 4)),
]


@pytest.mark.parametrize(
    "reshape, bias", covering.singles(UNFLATTEN, [0.0, 1.5]), ids=range(4)
)
def test_unflatten(reshape, bias, tmp_path):
    rng = np.random.default_rng(0)
    model = build(
        (5,),
        layers.Dense(24, name="before"),
        reshape,
        layers.Conv2DTranspose(3, 1, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    close_maps(model.get_layer("before"), [1, 2], 4, bias)
    # Single positions that are closed stay.
    checks.close(model.get_layer("before"), [3, 7])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").units == 12
    assert stripped.get_layer("all_after").kernel.shape[-1] == 2


def test_unflatten_what_is_not_read():
    rng = np.random.default_rng(0)
    model = build(
        (5,),
        layers.Dense(24, name="before"),
        layers.BatchNormalization(),
        layers.ReLU(),
        UNFLATTEN[0],
        layers.Conv2D(3, 2, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    unread(model.get_layer("all_after"), [0])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").units == 18


def test_unflatten_with_constants_that_are_not_alike():
    rng = np.random.default_rng(0)
    model = build(
        (5,),
        layers.Dense(24, name="before"),
        UNFLATTEN[0],
        layers.Conv2D(3, 1, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    close_maps(model.get_layer("before"), [1], 4, bias=np.arange(6))
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").units == 24


def test_others_that_need_more_of_what_is_unflattened():
    rng = np.random.default_rng(0)
    inputs = keras.Input((5,))
    x = layers.Dense(24, name="before")(inputs)
    y = layers.Conv2D(3, 1, name="all_after")(UNFLATTEN[0](x))
    model = keras.Model(inputs, [y, layers.Dense(2, name="all_b")(x)])
    checks.randomize(model, rng, closed=0.0)
    unread(model.get_layer("all_after"), [0, 3])
    unread(model.get_layer("all_b"), [0, 4, 5])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").units == 22
    assert stripped.get_layer("all_after").kernel.shape[-2] == 2


def test_the_input_of_a_model_is_unflattened():
    rng = np.random.default_rng(0)
    model = build((24,), UNFLATTEN[0], layers.Conv2D(3, 2, name="all_after"))
    unread(model.get_layer("all_after"), [0])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("all_after").kernel.shape[-2] == 3


@pytest.mark.parametrize("where", ["before", "after"])
def test_gates_move_through(where):
    rng = np.random.default_rng(0)
    gate = HardConcreteGate(name="gate")
    steps = [UNFLATTEN[0], layers.ReLU()]
    steps.insert(0 if where == "before" else 2, gate)
    model = build(
        (5,),
        layers.Dense(24, activation="relu", name="before"),
        *steps,
        layers.Conv2D(3, 1, activation="relu", name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    values = np.array([0.0, 0.5, -5.0, 1.0])
    gate.log_alpha.assign(np.tile(values, 24 // 4 if where == "before" else 1))
    stripped = checks.check(model, rng)
    assert "gate" not in {layer.name for layer in stripped.layers}
    assert stripped.get_layer("before").units == 18


@pytest.mark.parametrize("alike", [True, False])
def test_gates_move_forwards_where_they_are_alike(alike):
    rng = np.random.default_rng(0)
    gate = HardConcreteGate(name="gate")
    model = build(
        (5,),
        layers.Dense(24, activation="sigmoid", name="before"),
        gate,
        UNFLATTEN[0],
        layers.Conv2D(3, 1, activation="relu", name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    values = np.tile([0.0, 0.5, -5.0, 1.0], 6)
    if not alike:
        values[3] = 0.7
    gate.log_alpha.assign(values)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").units == 18
    names = {layer.name for layer in stripped.layers}
    assert ("gate" in names) != alike


# === Channels split and joined ===


def shuffle(groups):
    """The channel shuffle of ShuffleNet."""

    def apply(x):
        *sizes, channels = x.shape[1:]
        shape = (*sizes, groups, channels // groups)
        x = layers.Reshape(shape)(x)
        x = layers.Permute((1, 2, 4, 3))(x)
        return layers.Reshape((*sizes, channels))(x)

    return apply


def test_a_channel_shuffle_is_cut_by_what_is_mixed(tmp_path):
    rng = np.random.default_rng(0)
    model = build(
        (4, 5, 3),
        layers.Conv2D(8, 1, name="before"),
        shuffle(2),
        layers.Conv2D(3, 2, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    # Channels 1 and 5 come together, of 2 and 6 only one is closed.
    checks.close(model.get_layer("before"), [1, 5, 2])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").filters == 6
    assert not checks.barriers(model)


def by_hand(x):
    *sizes, channels = x.shape[1:]
    x = ops.reshape(x, (-1, *sizes, 2, 2, channels // 4))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, *(2 * size for size in sizes), channels // 4))


@pytest.mark.parametrize(
    "shuffle", [lambda x: ops.depth_to_space(x, 2), by_hand]
)
def test_a_channel_of_sub_pixels_goes_with_all_of_them(shuffle, tmp_path):
    rng = np.random.default_rng(0)
    model = build(
        (4, 5, 3),
        layers.Conv2D(12, 1, name="before"),
        shuffle,
        layers.Conv2D(3, 2, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    # Of channel 1 all four, of channel 2 three.
    checks.close(model.get_layer("before"), [1, 4, 7, 10, 2, 5, 8], 0.5)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").filters == 8
    assert not checks.barriers(model)


@pytest.mark.parametrize(
    "step, left",
    [
        (lambda x: ops.space_to_depth(x, 2), 3),
        (lambda x: ops.image.extract_patches(x, (2, 3), 1), 3),
        (lambda x: ops.image.extract_patches(x, 3, padding="same"), 4),
    ],
    ids=range(3),
)
def test_positions_that_become_channels(step, left, tmp_path):
    rng = np.random.default_rng(0)
    model = build(
        (4, 6, 3),
        layers.Conv2D(5, 1, name="before"),
        step,
        layers.Conv2D(3, 1, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 3], [0.0, 0.5])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").filters == left


@pytest.mark.parametrize(
    "shape, target, left",
    [
        ((4, 6), (4, 2, 3), 4),
        ((4, 6), (8, 3), 4),
        ((4, 6), (2, 2, 6), 5),
        ((4, 6), (24,), 5),
        ((2, 2, 6), (2, 12), 5),
        ((4, 6), (4, 6, 1), 5),
        ((4, 6), (1, 4, 1, 6), 5),
    ],
)
def test_what_has_to_stay_together(shape, target, left):
    rng = np.random.default_rng(0)
    model = build(
        (*shape[:-1], 3),
        layers.Dense(6, name="before"),
        layers.Reshape(target),
        layers.Activation("sigmoid"),
        layers.Flatten(),
        layers.Dense(2, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4] if left == 4 else [1], 0.5)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").units == left
    assert not checks.barriers(model)


def test_positions_of_unknown_number():
    rng = np.random.default_rng(0)
    inputs = keras.Input((None, 3), batch_size=2)
    x = layers.Dense(6, name="before")(inputs)
    x = layers.Reshape((-1, 2, 3))(x)
    x = layers.Dense(2, name="all_after")(x)
    model = keras.Model(inputs, x)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4])
    from l0keras import strip

    stripped = strip(model)
    x = rng.normal(size=(2, 4, 3)).astype("float32")
    checks.same(checks.outputs_of(stripped, [x]), checks.outputs_of(model, [x]))
    assert stripped.get_layer("before").units == 4


@pytest.mark.parametrize("target", [(8, 3), (24, 1), (2, 4, 3)])
def test_torn_channels_are_a_barrier(target):
    rng = np.random.default_rng(0)
    model = build(
        (6, 3),
        layers.Dense(4, name="before"),
        layers.Reshape(target, name="torn"),
        layers.Dense(2, name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").units == 4
    assert "reshapes the channels" in checks.barriers(model)["torn"]


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no channels_first convolutions on CPUs",
)
def test_unflatten_with_channels_first():
    rng = np.random.default_rng(0)
    model = build(
        (5,),
        layers.Dense(24, name="before"),
        layers.Reshape((4, 3, 2)),
        layers.ReLU(),
        layers.Conv2D(3, 2, data_format="channels_first", name="all_after"),
    )
    checks.randomize(model, rng, closed=0.0)
    unread(model.get_layer("all_after"), [0])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").units == 18


def test_a_single_channel_lies_along_the_usual_axis():
    """Of (batch, 1, 1, 1) any axis could be it, but gates are per channel."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(1, 1, name="one")(inputs)
    s = layers.Dense(1, activation="sigmoid")(
        layers.GlobalAveragePooling2D()(x)
    )
    x = layers.Multiply(name="product")([x, layers.Reshape((1, 1, 1))(s)])
    graph = plan(keras.Model(inputs, layers.Conv2D(2, 1)(x)))
    (product,) = [node for node in graph.nodes if node.name == "product"]
    assert not product.reasons
