import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks

TD = layers.TimeDistributed


def randomized(model, rng):
    checks.spread(model, rng)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(
                rng.uniform(0.5, 2.0, layer.moving_variance.shape)
            )
    return model


def close(layer, units, bias=0.0):
    """Zeroes the kernel's columns of some units."""
    arrays = checks.weights_of(layer)
    arrays["kernel"][..., units] = 0.0
    arrays["bias"][units] = bias
    checks.assign(layer, arrays)


def video(*rest, frames=4):
    """Convolutions on each frame of a film."""
    return keras.Sequential(
        [
            keras.Input((frames, 6, 6, 2)),
            TD(layers.Conv2D(5, 3, activation="relu", name="c1"), name="conv1"),
            *rest,
            TD(layers.Conv2D(4, 3, name="c2"), name="conv2"),
            TD(layers.GlobalAveragePooling2D(), name="pool"),
            layers.Dense(3, name="last"),
        ]
    )


@pytest.mark.parametrize(
    "rest",
    [
        [],
        [TD(layers.Activation("tanh"))],
        [TD(layers.BatchNormalization(name="bn"), name="norm")],
        [TD(layers.Dropout(0.2)), TD(layers.ReLU())],
        [TD(layers.DepthwiseConv2D(2, name="depthwise"))],
        [TD(layers.MaxPooling2D(2, padding="same", strides=1))],
    ],
    ids=lambda rest: "-".join(type(each.layer).__name__ for each in rest),
)
def test_each_frame(rest, tmp_path):
    rng = np.random.default_rng(0)
    configs = [layer.get_config() for layer in rest]
    rest = [TD.from_config(config) for config in configs]
    model = randomized(video(*rest), rng)
    close(model.get_layer("conv1"), [1, 3], [0.7, -0.2])
    close(model.get_layer("conv2"), [0], 0.3)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("conv1").layer.kernel.shape == (3, 3, 2, 3)
    assert stripped.get_layer("conv2").layer.kernel.shape == (3, 3, 3, 3)
    assert stripped.get_layer("last").kernel.shape == (3, 3)
    if rest and rest[0].name == "norm":
        assert stripped.get_layer("norm").layer.gamma.shape == (3,)
    assert not checks.reasons(model)


def test_flatten_and_dense(tmp_path):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((None, 4, 4, 2)),
            TD(layers.Conv2D(3, 2), name="conv"),
            TD(layers.Flatten()),
            TD(layers.Dense(5, activation="relu"), name="dense"),
            layers.LSTM(3, name="lstm"),
        ]
    )
    randomized(model, rng)
    close(model.get_layer("conv"), [1], 0.4)
    close(model.get_layer("dense"), [0, 2], 0.6)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("dense").layer.kernel.shape == (18, 3)
    assert stripped.get_layer("lstm").cell.kernel.shape == (3, 12)


def test_a_recurrent_layer_inside():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((3, 5, 4)),
            TD(layers.GRU(4), name="rnn"),
            layers.Dense(2, name="last"),
        ]
    )
    randomized(model, rng)
    arrays = checks.weights_of(model.get_layer("rnn"))
    for array in arrays.values():
        array.reshape(-1, 4)[:, 1] = 0.0
    checks.assign(model.get_layer("rnn"), arrays)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("rnn").layer.units == 3


def test_with_a_mask():
    rng = np.random.default_rng(0)
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(4, 5, mask_zero=True)(inputs)
    x = TD(layers.Dense(4), name="dense")(x)
    model = keras.Model(inputs, layers.GRU(3)(x))
    randomized(model, rng)
    close(model.get_layer("dense"), [2], 0.3)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("dense").layer.units == 3


def test_gates_inside_are_baked(tmp_path):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((4, 6, 6, 2)),
            TD(l0keras.layers.L0Conv2D(5, 3, activation="relu"), name="conv"),
            TD(layers.Flatten()),
            TD(l0keras.layers.L0Dense(3), name="dense"),
        ]
    )
    randomized(model, rng)
    conv, dense = l0keras.gates_of(model)
    conv.log_alpha.assign([1.0, -5.0, 0.5, -5.0, 3.0])
    log_alpha = rng.uniform(-2.0, 3.0, 80)
    log_alpha[::5] = -5.0
    dense.log_alpha.assign(log_alpha)
    model.get_layer("dense").layer.trainable = False
    stripped = checks.check(model, rng, tmp_path)
    assert type(stripped.get_layer("conv").layer) is layers.Conv2D
    assert stripped.get_layer("conv").trainable
    assert not stripped.get_layer("dense").layer.trainable
    assert stripped.get_layer("conv").layer.filters == 2
    assert stripped.get_layer("dense").layer.kernel.shape == (32, 3)


def test_a_gate_is_folded_into_the_layer_inside():
    rng = np.random.default_rng(0)
    gate = l0keras.HardConcreteGate(axis=-1)
    model = randomized(video(gate), rng)
    gate.log_alpha.assign([1.0, -5.0, 0.5, -5.0, 3.0])
    stripped = checks.check(model, rng)
    assert not any(isinstance(x, layers.Rescaling) for x in stripped.layers)
    assert stripped.get_layer("conv1").layer.filters == 3


def test_constants():
    rng = np.random.default_rng(0)
    model = randomized(video(), rng)
    close(model.get_layer("conv1"), [1, 3], [0.7, -0.2])
    constants = checks.constants_of(model).nodes[0].output.constants
    expected = [np.nan, 0.7, np.nan, 0.0, np.nan]
    np.testing.assert_allclose(constants, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "inside, shape, reason",
    [
        (layers.LayerNormalization(), (3, 4), "normalizes by the mean and"),
        (layers.Activation("softmax"), (3, 4), "activation 'softmax' may mix"),
        (
            layers.SpectralNormalization(layers.Dense(2)),
            (3, 4),
            "no rule for SpectralNormalization",
        ),
    ],
)
def test_barriers(inside, shape, reason):
    model = keras.Sequential([keras.Input(shape), TD(inside, name="td")])
    assert f"inside it: {reason}" in checks.reasons(model)["td"]
