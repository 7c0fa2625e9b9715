import keras
import numpy as np
import pytest

from l0keras import gates_of
from l0keras.layers import L0Conv2D
from tests.layers.gated_layer_tests import GatedLayerTests
from tests.testing import train_steps


class TestL0Conv2D(GatedLayerTests):
    layer_class = L0Conv2D
    plain_class = keras.layers.Conv2D
    default_granularity = "output"
    variants = [
        ({"filters": 4, "kernel_size": 3}, (4, 5, 6, 3)),
        (
            {
                "filters": 4,
                "kernel_size": (2, 3),
                "strides": (2, 1),
                "padding": "same",
                "activation": "sigmoid",
            },
            (2, 5, 6, 3),
        ),
        (
            {
                "filters": 2,
                "kernel_size": 2,
                "dilation_rate": 2,
                "activation": "tanh",
                "use_bias": False,
            },
            (2, 6, 6, 3),
        ),
        (
            {"filters": 6, "kernel_size": 3, "groups": 3, "padding": "same"},
            (2, 5, 5, 6),
        ),
        (
            {
                "filters": 4,
                "kernel_size": 3,
                "data_format": "channels_first",
                "activation": "relu",
            },
            (2, 3, 6, 5),
        ),
        ({"filters": 1, "kernel_size": 1}, (3, 5, 6, 2)),
    ]
    other_arguments = {
        "filters": 6,
        "kernel_size": (2, 3),
        "strides": (1, 2),
        "padding": "same",
        "data_format": "channels_first",
        "dilation_rate": (1, 1),
        "groups": 2,
        "activation": "relu",
        "use_bias": False,
        "kernel_initializer": "he_normal",
        "bias_initializer": "ones",
        "kernel_regularizer": "l1",
        "bias_regularizer": "l2",
        "activity_regularizer": "l2",
        "kernel_constraint": "non_neg",
        "bias_constraint": "max_norm",
    }


def test_the_bias_of_a_feature_map_closes_with_it():
    layer = L0Conv2D(3, 2, activation="sigmoid", log_alpha_limit=None)
    inputs = np.ones((1, 4, 4, 2), "float32")
    layer.build(inputs.shape)
    layer.bias.assign([7.0, 8.0, 9.0])
    layer.gate.log_alpha.assign([-100.0, 100.0, -100.0])
    for training in (False, True):
        outputs = layer(inputs, training=training)
        outputs = keras.ops.convert_to_numpy(outputs)
        np.testing.assert_array_equal(outputs[..., [0, 2]], 0.5)
        assert (outputs[..., 1] > 0.9).all()


def test_a_larger_bias_costs_more():
    layer = L0Conv2D(3, 2, l2=1.0)
    layer.build((None, 4, 4, 2))
    (before,) = layer.losses
    layer.bias.assign([0.0, 2.0, 0.0])
    (after,) = layer.losses
    expected = 0.5 * 2.0**2 * layer.gate.prob_open()[1]
    np.testing.assert_allclose(after - before, expected, rtol=1e-4)
    with_bias, without = (
        L0Conv2D(3, 2, l0=1.0, use_bias=use, seed=1) for use in (True, False)
    )
    for layer in (with_bias, without):
        layer.build((None, 4, 4, 2))
    np.testing.assert_allclose(
        with_bias.losses[0] - without.losses[0],
        with_bias.gate.prob_open().sum(),
        rtol=1e-3,
    )


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="as a dense layer, but far slower"
)
def test_fit_closes_feature_maps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6, 6, 1)).astype("float32")
    edge = np.array([[1.0, -1.0]], "float32")
    y = np.maximum(0, x[:, :, :-1] * edge[0, 0] + x[:, :, 1:] * edge[0, 1])
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            L0Conv2D(8, (1, 2), activation="relu", l0=0.03, seed=1),
            keras.layers.Conv2D(1, 1),
        ]
    )
    train_steps(model, x, y, 300, optimizer=keras.optimizers.Adam(0.03))
    (gate,) = gates_of(model)
    assert 1 <= gate.count_open() <= 5
    error = np.mean((model.predict(x, verbose=0) - y) ** 2)
    assert error < 0.1 * np.var(y)
