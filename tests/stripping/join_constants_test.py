"""Constants in front of padded borders, of which one stands in for all."""

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras import models
from l0keras.graph.rules import convolution
from tests import networks
from tests.graph.rules import checks

SIZE = 6


def padded(units, name, **kwargs):
    return layers.Conv2D(units, 3, padding="same", name=name, **kwargs)


def maker(constants, inputs):
    """A layer of which some units are constants, and its output."""
    layer = layers.Dense(SIZE, name="maker")
    outputs = layer(inputs)

    def close():
        for unit, value in constants.items():
            checks.close(layer, unit, value)

    return close, outputs


def checked(inputs, outputs, close):
    """The model with random weights, and what `strip` makes of it."""
    rng = np.random.default_rng(0)
    model = keras.Model(inputs, outputs)
    checks.randomize(model, rng, closed=0.0)
    close()
    return model, checks.check(model, rng)


def constants_read(layer, source):
    """The constants that a layer of a stripped model reads of a maker."""
    weights = source.get_weights()
    constant = ~np.any(weights[0], axis=0)
    assert constant.shape[0] == layer.kernel.shape[-2]
    return weights[1][constant].tolist()


def test_wide_resnet_keeps_one_constant_for_each_convolution():
    rng = np.random.default_rng(0)
    model = models.wide_resnet(
        10, 2, gates="paper", input_shape=(16, 16, 3), seed=1
    )
    networks.move_normalization(model, rng)
    networks.close_half(model, rng)
    stripped = l0keras.strip(model)
    inputs = networks.random_inputs(model, rng)
    expected, got = (
        networks.outputs_of(one, inputs)[0] for one in (model, stripped)
    )
    assert expected.std() > 1e-3
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    for stage in (1, 2, 3):
        name = f"block{stage}_1"
        gates = model.get_layer(f"{name}_conv1").gate.log_alpha.numpy()
        shut = gates == -5.0
        gamma, beta, mean, variance = (
            weight[shut]
            for weight in model.get_layer(f"{name}_norm2").get_weights()
        )
        behind = beta - gamma * mean / np.sqrt(variance + 1e-5)
        # ReLU leaves several of these.
        assert np.sum(behind > 0) > 3
        width = np.sum(~shut) + 1
        first, second = (
            stripped.get_layer(f"{name}_conv{index}").kernel.numpy()
            for index in (1, 2)
        )
        assert first.shape[-1] == second.shape[-2] == width
        assert np.sum(~np.any(first, axis=(0, 1, 2))) == 1
        assert second.dtype == "float32"
    again = l0keras.strip(stripped)
    for one, other in zip(again.weights, stripped.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_kernel_of_what_stands_in_is_the_sum_of_multiples():
    inputs = keras.Input((5, 5, 2))
    close, x = maker({1: 0.5, 2: -2.0, 4: 1.5}, inputs)
    model, stripped = checked(inputs, padded(3, "reader")(x), close)
    before, after = (
        one.get_layer("reader").kernel.numpy() for one in (model, stripped)
    )
    # The largest stands in: channel 2, behind channel 0.
    assert after.shape == (3, 3, 4, 3)
    joined = before[:, :, 2] - before[:, :, 1] * 0.25 - before[:, :, 4] * 0.75
    np.testing.assert_allclose(after[:, :, 1], joined, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(after[:, :, 0], before[:, :, 0])
    np.testing.assert_array_equal(after[:, :, 2:], before[:, :, [3, 5]])


def test_all_readers_of_a_tensor_read_the_same_one():
    inputs = keras.Input((5, 5, 2))
    close, x = maker({0: 1.0, 1: 1.5, 2: 3.0, 3: 2.0}, inputs)
    readers = [padded(2, f"reader{index}") for index in range(3)]

    def close_all():
        close()
        # They read (0, 1), (2, 3) and (3): no channel is read by all.
        for layer, unread in zip(readers, ([2, 3], [0, 1], [0, 1, 2])):
            kernel = layer.kernel.numpy()
            kernel[:, :, unread] = 0.0
            layer.kernel.assign(kernel)

    outputs = [layer(x) for layer in readers]
    _, stripped = checked(inputs, outputs, close_all)
    for layer in readers:
        small = stripped.get_layer(layer.name)
        assert constants_read(small, stripped.get_layer("maker")) == [3.0]


@pytest.mark.parametrize(
    "there, kept",
    [
        # Large enough: it is read by the layer that stands for a barrier.
        (1.0, [1.0]),
        (-1.0, [-1.0]),
        # Its rounding errors would be those of the other, 1000 times.
        (0.005, [0.005, 5.0]),
    ],
)
def test_what_is_read_elsewhere_stands_in_if_it_is_large_enough(there, kept):
    inputs = keras.Input((5, 5, 2))
    close, x = maker({0: 5.0, 1: there, 2: 4.0}, inputs)
    separable = layers.SeparableConv2D(2, 3, padding="same", name="separable")

    def close_all():
        close()
        kernel = separable.pointwise_kernel.numpy()
        kernel[:, :, [0, 2]] = 0.0
        separable.pointwise_kernel.assign(kernel)

    outputs = [padded(2, "reader")(x), separable(x)]
    _, stripped = checked(inputs, outputs, close_all)
    weights = stripped.get_layer("maker").get_weights()
    constant = ~np.any(weights[0], axis=0)
    np.testing.assert_allclose(sorted(weights[1][constant]), kept)
    assert len(constant) == 3 + len(kept)


def test_single_constants_stay_that_are_there_anyway():
    inputs = keras.Input((5, 5, 2))
    close, x = maker({0: 5.0, 1: 1.0, 2: 4.0}, inputs)
    readers = {1: padded(2, "reader1"), 2: padded(2, "reader2")}

    def close_all():
        close()
        for only, layer in readers.items():
            kernel = layer.kernel.numpy()
            kernel[:, :, [i for i in range(3) if i != only]] = 0.0
            layer.kernel.assign(kernel)

    outputs = [*(layer(x) for layer in readers.values()), x]
    _, stripped = checked(inputs, outputs, close_all)
    for only, layer in readers.items():
        np.testing.assert_array_equal(
            stripped.get_layer(layer.name).kernel,
            layer.kernel.numpy()[:, :, [only, 3, 4, 5]],
        )


def test_small_and_large_constants_in_single_precision():
    inputs = keras.Input((5, 5, 2))
    close, x = maker({0: 1e-30, 1: 1e-6, 2: 1e3, 3: 1e-38}, inputs)
    _, stripped = checked(inputs, padded(2, "reader")(x), close)
    reader = stripped.get_layer("reader")
    assert constants_read(reader, stripped.get_layer("maker")) == [1e3]
    assert np.abs(reader.kernel.numpy()).max() < 10.0


def test_a_layer_that_is_called_twice_reads_what_it_read():
    inputs = keras.Input((5, 5, 2))
    close, x = maker({0: 1.0, 1: 2.0}, inputs)
    shared = padded(2, "shared")
    outputs = [shared(x), shared(layers.ReLU(name="relu")(x))]
    model, stripped = checked(inputs, outputs, close)
    for one in (model, stripped):
        assert one.get_layer("shared").kernel.shape == (3, 3, SIZE, 2)


def test_groups_and_windows_of_single_channels_read_what_they_read():
    inputs = keras.Input((5, 5, 2))
    close, x = maker({0: 1.0, 1: 2.0, 4: 3.0}, inputs)
    y = padded(4, "groups", groups=2)(x)
    z = layers.SeparableConv2D(2, 3, padding="same", name="separable")(x)
    _, stripped = checked(inputs, [y, z], close)
    assert stripped.get_layer("maker").units == SIZE


def test_inside_time_distributed():
    inputs = keras.Input((3, 5, 5, 2))
    close, x = maker({0: 1.0, 1: 2.0, 4: 3.0}, inputs)
    x = layers.TimeDistributed(padded(2, "inside"), name="outside")(x)
    _, stripped = checked(inputs, x, close)
    inside = stripped.get_layer("outside").layer
    assert inside.kernel.shape == (3, 3, SIZE - 2, 2)


def test_bias_still_takes_what_it_can():
    inputs = keras.Input((5, 5, 2))
    close, x = maker({0: 1.0, 1: 2.0, 4: 3.0}, inputs)
    model, stripped = checked(inputs, layers.Conv2D(2, 3, name="r")(x), close)
    before, after = (one.get_layer("r").kernel for one in (model, stripped))
    np.testing.assert_array_equal(after, before.numpy()[:, :, [2, 3, 5]])


def test_a_rule_that_goes_on_reading_is_refused(monkeypatch):
    inputs = keras.Input((5, 5, 3))
    close, x = maker({1: 2.0, 4: 3.0}, inputs)
    model = keras.Model(inputs, padded(2, "reader")(x))
    close()
    monkeypatch.setattr(
        convolution.Convolution, "join_inputs", lambda *arguments: None
    )
    with pytest.raises(ValueError, match="Convolution of layer 'reader'.*must"):
        l0keras.strip(model)
