import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras import HardConcreteGate
from l0keras.stripping.plan import plan
from tests.graph.rules import checks


def around(layer, filters=8, activation=None, shape=(5, 4, 3)):
    """A normalization between a convolution and one that reads all of it."""
    inputs = keras.Input(shape)
    x = layers.Conv2D(filters, 1, activation=activation, name="before")(inputs)
    x = layer(x)
    x = layers.Conv2D(3, 2, name="all_after")(x)
    return keras.Model(inputs, x)


def unread(model, channels):
    """Makes the layer behind a normalization ignore channels."""
    after = model.get_layer("all_after")
    kernel = checks.to_numpy(after.kernel).copy()
    kernel[..., channels, :] = 0.0
    after.kernel.assign(kernel)


# === Groups ===


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
def test_whole_groups_go(options, tmp_path):
    rng = np.random.default_rng(0)
    norm = layers.GroupNormalization(4, name="norm", **options)
    model = around(norm)
    checks.randomize(model, rng, closed=0.0)
    unread(model, [2, 3, 4])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("norm").groups == 3
    assert stripped.get_layer("before").filters == 6
    (reason,) = [n.explanations for n in plan(model).nodes if n.name == "norm"]
    assert "makes 1 units that nobody needs" in reason[0]


def test_groups_of_constants_are_constant():
    rng = np.random.default_rng(0)
    model = around(layers.GroupNormalization(4, name="norm"))
    checks.randomize(model, rng, closed=0.0)
    # Of one group both channels, of another one of them.
    checks.close(model.get_layer("before"), [2, 3, 4], bias=[1.0, -2.0, 3.0])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters == 6
    graph = checks.constants_of(model)
    constants = graph.nodes[1].output.constants
    np.testing.assert_array_equal(
        np.isnan(constants), ~np.isin(np.arange(8), [2, 3])
    )
    norm = model.get_layer("norm")
    slope = 1.5 / np.sqrt(1.5**2 + norm.epsilon)
    expected = checks.to_numpy(norm.beta)[2:4] + slope * np.multiply(
        checks.to_numpy(norm.gamma)[2:4], [1.0, -1.0]
    )
    np.testing.assert_allclose(constants[2:4], expected, rtol=1e-6)


def test_a_gamma_of_zero_makes_a_constant():
    rng = np.random.default_rng(0)
    model = around(layers.GroupNormalization(4, name="norm"))
    checks.randomize(model, rng, closed=0.0)
    norm = model.get_layer("norm")
    gamma = checks.to_numpy(norm.gamma).copy()
    gamma[[0, 1, 2]] = 0.0
    norm.gamma.assign(gamma)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("norm").groups == 3


@pytest.mark.parametrize("groups", [8, -1])
def test_instance_normalization_goes_channel_by_channel(groups):
    rng = np.random.default_rng(0)
    model = around(layers.GroupNormalization(groups, name="norm"))
    checks.randomize(model, rng, closed=0.0)
    unread(model, [2])
    checks.close(model.get_layer("before"), [5], bias=3.0)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("norm").groups == 6
    assert stripped.get_layer("before").filters == 6


def test_one_group_stays_whole():
    rng = np.random.default_rng(0)
    model = around(layers.GroupNormalization(1, name="norm"))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [2])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters == 8


def test_groups_that_others_need_in_part_are_selected_in_front():
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 4, 3))
    x = layers.Conv2D(8, 1, name="before")(inputs)
    y = layers.GroupNormalization(4, name="norm")(x)
    y = layers.Conv2D(3, 1, name="all_after")(y)
    model = keras.Model(inputs, [y, layers.Conv2D(2, 1, name="all_b")(x)])
    checks.randomize(model, rng, closed=0.0)
    unread(model, [2, 3])
    other = checks.to_numpy(model.get_layer("all_b").kernel).copy()
    other[..., 3, :] = 0.0
    model.get_layer("all_b").kernel.assign(other)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters == 7
    assert stripped.get_layer("norm").groups == 3


def test_nothing_needed_of_groups_keeps_one_whole():
    rng = np.random.default_rng(0)
    model = around(layers.GroupNormalization(4, name="norm"))
    checks.randomize(model, rng, closed=0.0)
    norm = model.get_layer("norm")
    norm.gamma.assign(np.zeros(8))
    stripped = checks.check(model, rng)
    assert stripped.get_layer("norm").groups == 1


def test_channels_first_groups():
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 3))
    x = layers.Dense(8, name="before")(inputs)
    x = layers.Permute((2, 1))(x)
    x = layers.GroupNormalization(4, axis=1, name="norm")(x)
    x = layers.Permute((2, 1))(x)
    x = layers.Dense(2, name="all_after")(x)
    model = keras.Model(inputs, x)
    checks.randomize(model, rng, closed=0.0)
    unread(model, [6, 7])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("norm").groups == 3
    assert stripped.get_layer("before").units == 6


def test_a_gate_moves_back_into_the_groups():
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 4, 3))
    x = layers.Conv2D(8, 1, name="before")(inputs)
    x = layers.GroupNormalization(4, scale=False, name="norm")(x)
    x = layers.ReLU()(x)
    x = HardConcreteGate(name="gate")(x)
    x = layers.Conv2D(3, 1, activation="relu", name="all_after")(x)
    model = keras.Model(inputs, x)
    checks.randomize(model, rng, closed=0.0)
    gate = model.get_layer("gate")
    gate.log_alpha.assign([0.0, 0.5, -5.0, -5.0, 1.0, -5.0, -0.5, 3.0])
    stripped = checks.check(model, rng)
    assert "gate" not in {layer.name for layer in stripped.layers}
    assert stripped.get_layer("norm").groups == 3


def test_another_axis_is_a_barrier():
    model = around(layers.GroupNormalization(2, axis=2, name="norm"))
    checks.check(model, np.random.default_rng(0))
    assert "another axis" in checks.barriers(model)["norm"]


# === Root mean squares and norms ===


def test_rms_of_fewer_channels(tmp_path):
    rng = np.random.default_rng(0)
    # A large epsilon, so that it matters.
    model = around(layers.RMSNormalization(epsilon=0.5, name="norm"))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4, 5])
    unread(model, [0])
    stripped = checks.check(model, rng, tmp_path)
    norm = stripped.get_layer("norm")
    # Channel 0 is not read, but belongs to the mean of squares.
    assert stripped.get_layer("before").filters == 5
    assert norm.epsilon == pytest.approx(0.5 * 8 / 5)
    before = checks.to_numpy(model.get_layer("norm").scale)
    np.testing.assert_allclose(
        checks.to_numpy(norm.scale),
        before[[0, 2, 3, 6, 7]] * np.sqrt(8 / 5),
        rtol=1e-6,
    )


@pytest.mark.parametrize("scale", [None, np.arange(8, dtype="float32")])
def test_rms_as_an_op(scale, tmp_path):
    rng = np.random.default_rng(0)
    model = around(lambda x: ops.rms_normalization(x, scale, epsilon=0.5))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4, 5])
    unread(model, [2])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").filters == 5


def test_rms_keeps_other_constants():
    rng = np.random.default_rng(0)
    model = around(layers.RMSNormalization(name="norm"))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4], bias=[0.0, 2.0])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters == 7


def test_rms_of_nothing():
    rng = np.random.default_rng(0)
    model = around(layers.RMSNormalization(name="norm"))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), np.arange(8))
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters == 1


def test_rms_with_an_output_of_zeros():
    """A zero that somebody needs stays, and counts like the others."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((3,))
    x = layers.Dense(6, name="before")(inputs)
    x = layers.RMSNormalization(name="norm")(x)
    model = keras.Model(inputs, layers.Softmax()(x))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4])
    stripped = checks.check(model, rng)
    assert stripped.output_shape == (None, 6)


def test_a_gate_moves_back_into_the_scale():
    rng = np.random.default_rng(0)
    inputs = keras.Input((3,))
    x = layers.Dense(6, name="before")(inputs)
    x = layers.RMSNormalization(name="norm")(x)
    x = HardConcreteGate(name="gate")(x)
    model = keras.Model(inputs, layers.Dense(2, name="all_after")(x))
    checks.randomize(model, rng, closed=0.0)
    model.get_layer("gate").log_alpha.assign([0.0, 0.5, -5.0, 1.0, 3.0, -5.0])
    stripped = checks.check(model, rng)
    assert "gate" not in {layer.name for layer in stripped.layers}
    assert stripped.get_layer("all_after").kernel.shape == (4, 2)


def test_gates_of_a_stream_stand_in_front_of_its_norms():
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 3))
    x = layers.Dense(6, name="before")(inputs)
    y = layers.RMSNormalization()(x)
    x = x + layers.Dense(6, name="inner")(y)
    x = layers.Dense(2, name="all_after")(layers.RMSNormalization()(x))
    gated = l0keras.sparsify(keras.Model(inputs, x))
    checks.randomize(gated, rng, closed=0.0)
    (gate,) = l0keras.gates_of(gated)
    gate.log_alpha.assign([5.0, -5.0, 5.0, 5.0, -5.0, 5.0])
    stripped = checks.check(gated, rng)
    assert [stripped.get_layer(x).units for x in ("before", "inner")] == [4, 4]
    # Of gates that are all open nothing is left.
    assert not any(isinstance(x, layers.Rescaling) for x in stripped.layers)
    gate.log_alpha.assign([5.0, -5.0, 0.5, 5.0, -5.0, 5.0])
    checks.check(gated, rng)


@pytest.mark.parametrize("axis", [[1, 2, 3], [2, 3]])
def test_rms_over_positions_is_a_barrier(axis):
    model = around(layers.RMSNormalization(axis=axis, name="norm"))
    checks.check(model, np.random.default_rng(0))
    assert "other axes" in checks.barriers(model)["norm"]


@pytest.mark.parametrize(
    "layer, left",
    [
        (layers.UnitNormalization(), 6),
        (layers.UnitNormalization(axis=[1, 2, 3]), 6),
        (layers.UnitNormalization(axis=(1, 2)), 5),
        (lambda x: ops.normalize(x, axis=-1), 6),
        (lambda x: ops.normalize(x, axis=-1, order=3), 6),
        (lambda x: ops.normalize(x, axis=1), 5),
    ],
)
def test_norms_do_without_zeros(layer, left, tmp_path):
    rng = np.random.default_rng(0)
    model = around(layer)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4])
    # Others have a part in the norm, also if nobody reads them, unless each
    # channel has its own.
    unread(model, [0])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").filters == left
    checks.close(model.get_layer("before"), [2], bias=1.0)
    checks.check(model, rng)


# === Over positions only ===


@pytest.mark.parametrize(
    "layer",
    [
        layers.LayerNormalization(axis=1),
        layers.LayerNormalization(axis=[1, 2]),
        layers.Softmax(axis=1),
        layers.Softmax(axis=(1, 2)),
        lambda x: ops.softmax(x, axis=2),
        lambda x: ops.log_softmax(x, axis=1),
    ],
)
def test_over_positions_each_channel_is_on_its_own(layer, tmp_path):
    rng = np.random.default_rng(0)
    model = around(layer)
    checks.randomize(model, rng, closed=0.0)
    unread(model, [0, 3])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").filters == 6
    assert not checks.barriers(model)


@pytest.mark.parametrize(
    "layer",
    [
        layers.LayerNormalization(name="mixes"),
        layers.LayerNormalization(axis=[2, 3], name="mixes"),
        layers.Softmax(name="mixes"),
        layers.Activation("softmax", name="mixes"),
    ],
)
def test_over_channels_is_a_barrier_that_says_why(layer):
    rng = np.random.default_rng(0)
    model = around(layer)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters == 8
    reason = checks.barriers(model)["mixes"]
    assert any(
        text in reason
        for text in (
            "depends on all channels",
            "of all its",
            "may mix channels",
        )
    )


def test_spectral_normalization_is_a_barrier():
    rng = np.random.default_rng(0)
    inner = layers.Conv2D(4, 1, name="inner")
    model = around(layers.SpectralNormalization(inner, name="spectral"))
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4])
    checks.check(model, rng)
    assert "SpectralNormalization" in checks.barriers(model)["spectral"]


# === Statistics of data ===


def adapted(rng, **arguments):
    layer = layers.Normalization(name="norm", **arguments)
    layer.adapt(rng.normal(2.0, 3.0, (20, 5, 4, 8)).astype("float32"))
    return layer


MEANS = [0.5, 1.0, -1.0, 2.0, 0.0, 3.0, -2.0, 1.5]
VARIANCES = [1.0, 2.0, 0.0, 0.5, 4.0, 1.0, 3.0, 0.25]


@pytest.mark.parametrize(
    "arguments",
    [
        {"mean": MEANS, "variance": VARIANCES},
        {"mean": MEANS, "variance": VARIANCES, "invert": True},
        {"mean": 2.0, "variance": 3.0},
        {"mean": 2.0, "variance": 3.0, "axis": None},
        {"mean": MEANS, "variance": VARIANCES, "axis": (2, -1)},
        {
            "mean": np.reshape(MEANS * 4, (4, 8)),
            "variance": np.reshape(VARIANCES * 4, (4, 8)),
            "axis": (2, -1),
        },
        {"mean": MEANS[:4], "variance": VARIANCES[:4], "axis": 2},
    ],
    ids=range(7),
)
def test_given_statistics_are_cut(arguments, tmp_path):
    rng = np.random.default_rng(0)
    model = around(layers.Normalization(name="norm", **arguments))
    checks.randomize(model, rng, closed=0.0)
    unread(model, [1, 2])
    checks.close(model.get_layer("before"), [4], bias=0.5)
    stripped = checks.check(model, rng, tmp_path)
    same = arguments.get("axis") != 2
    assert stripped.get_layer("before").filters == (5 if same else 6)


@pytest.mark.parametrize(
    "arguments, folds",
    [
        ({}, True),
        ({"invert": True}, True),
        ({"axis": None}, True),
        ({"axis": (1, 3)}, False),
        ({"axis": 2}, False),
    ],
)
def test_adapted_statistics_are_cut(arguments, folds, tmp_path):
    rng = np.random.default_rng(0)
    model = around(adapted(rng, **arguments))
    for layer in (model.get_layer("before"), model.get_layer("all_after")):
        layer.bias.assign(rng.normal(size=layer.bias.shape))
    unread(model, [1, 2])
    checks.close(model.get_layer("before"), [4], bias=0.5)
    stripped = checks.check(model, rng, tmp_path)
    left = 5 if folds else 6
    assert stripped.get_layer("before").filters == left
    norm, old = stripped.get_layer("norm"), model.get_layer("norm")
    assert int(norm.count) == int(old.count)
    if 3 in old._keep_axis:
        assert norm.adapt_mean.shape[-1] == left


def test_the_input_of_an_efficient_net():
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 6, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.Normalization(axis=-1, name="norm")(x)
    x = layers.Rescaling([1.0, 0.5, 2.0])(x)
    x = layers.Conv2D(4, 3, name="all_after")(x)
    model = keras.Model(inputs, x)
    checks.randomize(model, rng)
    model.get_layer("norm").finalize_state()
    assert not checks.barriers(model)
    stripped = checks.check(model, rng)
    assert stripped.count_params() == model.count_params()
    unread(model, [1])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("all_after").kernel.shape[-2] == 2


def test_weights_are_priced_as_they_are():
    rng = np.random.default_rng(0)
    for layer in (
        layers.GroupNormalization(4, name="norm"),
        layers.RMSNormalization(name="norm"),
        adapted(rng),
        adapted(rng, axis=(1, 3)),
        adapted(rng, axis=1),
    ):
        model = around(layer)
        nodes = {node.name: node for node in plan(model).nodes}
        node = nodes["norm"]
        size = sum(
            count * int(np.prod([len(channels) for _, channels in axes]))
            for count, axes in node.rule.weights(node)
        )
        # Not the one number that says how much data there was.
        assert size == sum(
            int(np.prod(w.shape)) for w in layer.weights if w.name != "count"
        )
