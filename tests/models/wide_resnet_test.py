import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras import models
from tests import networks
from tests.models.sizes import count_trainable
from tests.models.sizes import total


def test_published_size():
    model = models.wide_resnet()
    convolutions = [(32, 3, 3, 16)]
    before = 16
    for side, filters in ((32, 160), (16, 320), (8, 640)):
        convolutions += [(side, 1, before, filters), (side, 3, before, filters)]
        convolutions += 7 * [(side, 3, filters, filters)]
        before = filters
    weights, macs = total(convolutions)
    # In front of each 3 x 3 convolution but the first, and behind the last.
    normalized = 16 + 7 * 160 + 160 + 7 * 320 + 320 + 7 * 640 + 640
    assert count_trainable(model) == weights + 2 * normalized + 6410
    assert l0keras.count_macs(model) == macs + 6400
    assert count_trainable(model) == pytest.approx(36.5e6, rel=0.01)
    assert l0keras.count_macs(model) == pytest.approx(5.25e9, rel=0.01)


def test_shortcuts_share_the_first_activation():
    model = models.wide_resnet(10, 1, input_shape=(8, 8, 3))
    for name in ("block2_1", "block3_1"):
        relu = model.get_layer(f"{name}_relu1").output
        assert model.get_layer(f"{name}_shortcut").input is relu
    # 16 channels come from the stem, and 16 are wanted.
    names = [layer.name for layer in model.layers]
    assert "block1_1_shortcut" not in names
    stem = model.get_layer("stem_conv").output
    assert model.get_layer("block1_1_add").input[0] is stem


def test_dropout_between_the_convolutions_of_a_block():
    small = {"depth": 10, "width": 1, "input_shape": (8, 8, 3), "seed": 1}
    plain = models.wide_resnet(**small)
    first, same = (models.wide_resnet(dropout=0.4, **small) for _ in range(2))
    dropped = [
        layer
        for layer in first.layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert [layer.rate for layer in dropped] == [0.4] * 3
    assert not [x for x in plain.layers if isinstance(x, keras.layers.Dropout)]
    second = first.get_layer("block2_1_conv2")
    assert second.input is first.get_layer("block2_1_dropout").output
    image = np.ones((2, 8, 8, 3), "float32")
    noisy = first(image, training=True).numpy()
    np.testing.assert_array_equal(noisy, same(image, training=True).numpy())
    assert not np.allclose(noisy, first(image, training=True).numpy())


def test_gated_has_the_papers_gates():
    model = models.wide_resnet(gates="paper", seed=0)
    gates = l0keras.gates_of(model)
    # One for each feature map of the first convolution of each block.
    widths = [160] * 4 + [320] * 4 + [640] * 4
    assert [gate.log_alpha.shape[0] for gate in gates] == widths
    inputs = [16] + [160] * 4 + [320] * 4 + [640] * 3
    assert [gate.group_size for gate in gates] == [9 * n for n in inputs]
    for gate in gates:
        # log(0.7 / 0.3)
        assert float(ops.mean(gate.log_alpha)) == pytest.approx(0.847, abs=5e-3)
    gated = [
        layer.name
        for layer in model.layers
        if isinstance(layer, l0keras.layers.L0Conv2D)
    ]
    blocks = [(stage, block) for stage in (1, 2, 3) for block in (1, 2, 3, 4)]
    assert gated == [f"block{stage}_{block}_conv1" for stage, block in blocks]
    # Nothing else is other than in the plain network.
    plain = models.wide_resnet(seed=0)
    assert count_trainable(model) == count_trainable(plain) + sum(widths)
    for name in ("stem_conv", "block1_1_conv1", "block3_4_conv2"):
        kernels = [net.get_layer(name).kernel for net in (model, plain)]
        np.testing.assert_array_equal(*kernels)


def gated_wide_resnet(**kwargs):
    small = {"depth": 10, "width": 1, "input_shape": (8, 8, 3)}
    return models.wide_resnet(**{"gates": "paper", **small, **kwargs})


def test_penalty_of_gates_and_of_plain_layers():
    model = gated_wide_resnet(
        l0=0.01, l2=0.3, droprate_init=0.4, sample_per="example", seed=1
    )
    networks.close_half(model, np.random.default_rng(0))
    expected = 0.0
    for layer in model.layers:
        if not isinstance(layer, l0keras.layers.L0Conv2D):
            squares = [ops.sum(w**2) for w in layer.trainable_weights]
            expected += 0.15 * sum(map(float, squares))
            continue
        kernel = layer.kernel.numpy()
        log_alpha = layer.gate.log_alpha.numpy()
        probability = 1 / (1 + np.exp(-log_alpha - 1.598597))
        squares = np.sum(kernel**2, axis=(0, 1, 2))
        weights = kernel[..., 0].size
        costs = 0.01 * weights + 0.5 * 0.3 / 0.6 * squares
        expected += np.sum(probability * costs)
        assert layer.gate.sample_per == "example"
    penalty = sum(float(loss) for loss in model.losses)
    assert penalty == pytest.approx(expected, rel=1e-5)


def test_gates_draw_different_noise_fixed_by_the_seed():
    first, same = (gated_wide_resnet(seed=1) for _ in range(2))
    noise, again = (
        [gate.values(training=True).numpy() for gate in l0keras.gates_of(model)]
        for model in (first, same)
    )
    for one, other in zip(noise, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for index, values in enumerate(noise[1:]):
        values = values[: len(noise[index])]
        assert abs(np.corrcoef(noise[index], values)[0, 1]) < 0.8


def test_gates_in_front_of_normalization_are_stripped_exactly():
    rng = np.random.default_rng(0)
    model = gated_wide_resnet(width=2, seed=1)
    networks.move_normalization(model, rng)
    networks.close_half(model, rng)
    stripped = l0keras.strip(model)
    inputs = networks.random_inputs(model, rng)
    expected, got = (
        networks.outputs_of(one, inputs)[0] for one in (model, stripped)
    )
    assert expected.std() > 1e-3
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert l0keras.gates_of(stripped) == []
    assert stripped.count_params() < model.count_params()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 27}, "`depth` must be 6 n . 4 with n = 1.*depth=27"),
        ({"depth": 4}, "`depth` must be 6 n . 4 .*depth=4"),
        ({"width": 0}, "`width` must be an integer of at least 1.*width=0"),
        ({"droprate_init": 1}, "`droprate_init` must lie in .0, 1.*init=1"),
        ({"gates": "paper", "l0": -1}, "`l0` must.*l0=-1"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and .*dropout=1.0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.wide_resnet(**arguments)
