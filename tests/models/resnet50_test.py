import pytest

import l0keras
from l0keras import models
from tests.models.sizes import count_trainable
from tests.models.sizes import total


@pytest.fixture(scope="module")
def model():
    return models.resnet50()


def test_published_size(model):
    convolutions = [(112, 7, 3, 64)]
    normalized, before = 64, 64
    side = 56
    for blocks, n in ((3, 64), (4, 128), (6, 256), (3, 512)):
        # The first 1 x 1 convolution still has the side of the stage before.
        first = side if n == 64 else 2 * side
        convolutions += [
            (first, 1, before, n),
            (side, 3, n, n),
            (side, 1, n, 4 * n),
            (side, 1, before, 4 * n),
        ]
        convolutions += (blocks - 1) * [
            (side, 1, 4 * n, n),
            (side, 3, n, n),
            (side, 1, n, 4 * n),
        ]
        normalized += 6 * n * blocks + 4 * n
        before, side = 4 * n, side // 2
    weights, macs = total(convolutions)
    assert count_trainable(model) == weights + 2 * normalized + 2_049_000
    assert l0keras.count_macs(model) == macs + 2_048_000
    assert count_trainable(model) == pytest.approx(25.5e6, rel=0.01)
    assert l0keras.count_macs(model) == pytest.approx(4.1e9, rel=0.01)


def test_strides_are_in_the_3_x_3_convolutions(model):
    strided = {
        layer.name
        for layer in model.layers
        if getattr(layer, "strides", (1, 1)) == (2, 2)
    }
    assert strided == {"stem_conv", "stem_pool"} | {
        f"block{stage}_1_{name}"
        for stage in (2, 3, 4)
        for name in ("conv2", "shortcut_conv")
    }
    assert model.get_layer("stem_pool").output.shape == (None, 56, 56, 64)
    assert model.output_shape == (None, 1000)
