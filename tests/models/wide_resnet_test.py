import keras
import numpy as np
import pytest

import l0keras
from l0keras import models
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


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 27}, "`depth` must be 6 n . 4 with n = 1.*depth=27"),
        ({"depth": 4}, "`depth` must be 6 n . 4 .*depth=4"),
        ({"width": 0}, "`width` must be an integer of at least 1.*width=0"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and .*dropout=1.0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.wide_resnet(**arguments)
