import keras
import pytest

import l0keras
from l0keras import models
from tests.models.sizes import count_trainable
from tests.models.sizes import total


def test_published_size():
    model = models.vgg16()
    channels = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
    sides = [32] * 2 + [16] * 2 + [8] * 3 + [4] * 3 + [2] * 3
    pairs = zip(sides, channels[:-1], channels[1:], strict=True)
    weights, macs = total([(side, 3, a, b) for side, a, b in pairs])
    normalized = sum(channels[1:])
    assert count_trainable(model) == weights + 2 * normalized + 5130
    assert l0keras.count_macs(model) == macs + 5120
    assert count_trainable(model) == pytest.approx(14.72e6, rel=0.001)
    assert l0keras.count_macs(model) == pytest.approx(313.2e6, rel=0.001)


def test_layers():
    model = models.vgg16(input_shape=(64, 32, 3))
    names = [layer.name for layer in model.layers]
    assert names[:7] == [
        "image",
        "block1_conv1",
        "block1_norm1",
        "block1_relu1",
        "block1_conv2",
        "block1_norm2",
        "block1_relu2",
    ]
    assert names[7] == "block1_pool"
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(keras.layers.Conv2D) == 13
    assert model.get_layer("block5_pool").output.shape == (None, 2, 1, 512)


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="at least 32 x 32 pixels.*=.28, 28"):
        models.vgg16((28, 28, 1))
