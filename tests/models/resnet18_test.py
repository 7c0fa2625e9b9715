import pytest

import l0keras
from l0keras import models
from tests.models.sizes import count_trainable
from tests.models.sizes import total


def test_published_size():
    model = models.resnet18()
    convolutions = [(32, 3, 3, 64)] + 4 * [(32, 3, 64, 64)]
    for side, filters in ((16, 128), (8, 256), (4, 512)):
        convolutions += [(side, k, filters // 2, filters) for k in (1, 3)]
        convolutions += 3 * [(side, 3, filters, filters)]
    weights, macs = total(convolutions)
    normalized = 5 * 64 + 5 * (128 + 256 + 512)
    assert count_trainable(model) == weights + 2 * normalized + 5130
    assert l0keras.count_macs(model) == macs + 5120
    assert count_trainable(model) == pytest.approx(11.17e6, rel=0.001)
    assert l0keras.count_macs(model) == pytest.approx(556e6, rel=0.01)


def test_only_blocks_that_change_the_shape_have_weights_in_the_shortcut():
    names = {layer.name for layer in models.resnet18().layers}
    assert {n for n in names if n.endswith("shortcut_conv")} == {
        f"block{stage}_1_shortcut_conv" for stage in (2, 3, 4)
    }
    assert {"stem_conv", "block1_1_conv1", "block4_2_relu2"} <= names
