import pytest

import l0keras
from l0keras import models
from tests.models.sizes import count_trainable
from tests.models.sizes import total


def test_size_worked_out_by_hand():
    model = models.mobilenet_v1()
    channels = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    sides = [32, 16, 16, 8, 8, *[4] * 6, 2, 2]
    pairs = list(zip(sides, channels[:-1], channels[1:], strict=True))
    convolutions = [(32, 3, 3, 32)]
    # One channel of input for each of the output.
    convolutions += [(side, 3, 1, before) for side, before, _ in pairs]
    convolutions += [(side, 1, before, after) for side, before, after in pairs]
    weights, macs = total(convolutions)
    normalized = 32 + sum(before + after for _, before, after in pairs)
    assert count_trainable(model) == weights + 2 * normalized + 10_250
    assert l0keras.count_macs(model) == macs + 10_240
    # The paper's 4.2 million with 1000 instead of 10 classes.
    assert count_trainable(models.mobilenet_v1(classes=1000)) == pytest.approx(
        4.2e6, rel=0.01
    )


def test_alpha_thins_all_layers():
    model = models.mobilenet_v1(alpha=0.25, input_shape=(16, 16, 3))
    assert model.get_layer("stem_conv").filters == 8
    assert model.get_layer("block1_conv2").filters == 16
    assert model.get_layer("block13_conv2").filters == 256


def test_each_layer_keeps_a_channel():
    model = models.mobilenet_v1(alpha=1 / 32, input_shape=(16, 16, 3))
    assert model.get_layer("stem_conv").filters == 1
    with pytest.raises(ValueError, match="`alpha` must be .*alpha=0.03"):
        models.mobilenet_v1(alpha=0.03)
