import keras
import numpy as np
import pytest

from l0keras import models


@pytest.mark.parametrize(
    "side, pixels, count", [(32, 64, 1_756_426), (24, 36, 1_068_298)]
)
def test_parameters(side, pixels, count):
    model = models.cifar_cnn((side, side, 3))
    by_hand = 25 * 3 * 64 + 64 + 25 * 64 * 64 + 64
    by_hand += pixels * 64 * 384 + 384 + 384 * 192 + 192 + 192 * 10 + 10
    assert model.count_params() == by_hand == count
    assert model.get_layer("flatten").output.shape == (None, pixels * 64)
    assert model.output_shape == (None, 10)
    assert model.get_layer("logits").activation is keras.activations.linear


def test_only_hidden_dense_layers_decay():
    model = models.cifar_cnn(l2=0.004)
    decays = {
        layer.name: float(layer.kernel_regularizer.l2)
        for layer in model.layers
        if getattr(layer, "kernel_regularizer", None)
    }
    assert decays == {
        "fc1": pytest.approx(0.002),
        "fc2": pytest.approx(0.002),
    }


def test_seed_fixes_the_weights():
    one, same, other = (models.cifar_cnn((8, 8, 1), seed=s) for s in (1, 1, 2))
    for a, b, c in zip(*(m.get_weights() for m in (one, same, other))):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or (a != c).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"input_shape": (32, 32)}, "`input_shape` must be"),
        ({"classes": 0}, "`classes` must be .*classes=0"),
        ({"l2": -1}, "`l2` must be at least 0"),
        ({"seed": -1}, "`seed` must be .*seed=-1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.cifar_cnn(**arguments)
