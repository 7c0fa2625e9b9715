import keras
import pytest

import l0keras
from l0keras import models
from tests.models.sizes import count_trainable
from tests.models.sizes import total


def test_published_size():
    model = models.densenet()
    convolutions, normalized, channels = [(32, 3, 3, 16)], 0, 16
    for side in (32, 16, 8):
        for _ in range(12):
            convolutions.append((side, 3, channels, 12))
            normalized += channels
            channels += 12
        normalized += channels
        if side > 8:
            convolutions.append((side, 1, channels, channels))
    weights, macs = total(convolutions)
    assert channels == 16 + 36 * 12
    assert count_trainable(model) == weights + 2 * normalized + 4490
    assert l0keras.count_macs(model) == macs + 4480
    # The paper says 1.0M.
    assert 0.95e6 < count_trainable(model) < 1.05e6


def test_layers_see_all_channels_so_far():
    model = models.densenet(13, 5, input_shape=(8, 8, 3))
    seen = [
        model.get_layer(f"block1_{index}_conv").kernel.shape
        for index in (1, 2, 3)
    ]
    assert seen == [(3, 3, 16, 5), (3, 3, 21, 5), (3, 3, 26, 5)]
    assert model.get_layer("transition1_conv").kernel.shape == (1, 1, 31, 31)
    assert model.get_layer("transition2_pool").output.shape == (None, 2, 2, 46)


def test_dropout_behind_each_convolution_but_the_first():
    model = models.densenet(10, 4, dropout=0.2, input_shape=(8, 8, 3))
    rates = [
        layer.rate
        for layer in model.layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert rates == [0.2] * 8


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 41}, "`depth` must be 3 n . 4 with n = 1.*depth=41"),
        ({"growth_rate": 0}, "`growth_rate` must be an integer.*rate=0"),
        ({"dropout": -0.1}, "`dropout` must be at least 0.*dropout=-0.1"),
        ({"input_shape": (3, 8, 3)}, "at least 4 x 4 pixels"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.densenet(**arguments)
