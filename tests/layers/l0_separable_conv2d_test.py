import keras
import numpy as np

from l0keras.layers import L0SeparableConv2D
from tests.layers.gated_layer_tests import GatedLayerTests


class TestL0SeparableConv2D(GatedLayerTests):
    layer_class = L0SeparableConv2D
    plain_class = keras.layers.SeparableConv2D
    default_granularity = "output"
    granularities = ("input", "output")
    variants = [
        ({"filters": 4, "kernel_size": 3}, (4, 5, 6, 3)),
        (
            {
                "filters": 4,
                "kernel_size": (2, 3),
                "padding": "same",
                "depth_multiplier": 2,
                "activation": "sigmoid",
            },
            (2, 5, 6, 3),
        ),
        (
            {
                "filters": 2,
                "kernel_size": 3,
                "strides": 2,
                "depth_multiplier": 3,
                "activation": "tanh",
                "use_bias": False,
            },
            (2, 6, 6, 2),
        ),
        ({"filters": 3, "kernel_size": 2, "dilation_rate": 2}, (2, 6, 6, 3)),
        (
            {
                "filters": 4,
                "kernel_size": 3,
                "depth_multiplier": 2,
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
        "strides": (2, 2),
        "padding": "same",
        "data_format": "channels_first",
        "dilation_rate": (1, 1),
        "depth_multiplier": 2,
        "activation": "relu",
        "use_bias": False,
        "depthwise_initializer": "he_normal",
        "pointwise_initializer": "he_uniform",
        "bias_initializer": "ones",
        "depthwise_regularizer": "l1",
        "pointwise_regularizer": "l2",
        "bias_regularizer": "l2",
        "activity_regularizer": "l2",
        "depthwise_constraint": "non_neg",
        "pointwise_constraint": "unit_norm",
        "bias_constraint": "max_norm",
    }


def test_a_closed_input_channel_closes_the_rows_that_read_it():
    layer = L0SeparableConv2D(
        5, 2, depth_multiplier=2, granularity="input", log_alpha_limit=None
    )
    layer.build((None, 4, 4, 3))
    layer.gate.log_alpha.assign([100.0, -100.0, 100.0])
    depthwise, pointwise, _ = layer.bake().get_weights()
    np.testing.assert_array_equal(
        (depthwise == 0).all(axis=(0, 1, 3)), [False, True, False]
    )
    closed = (pointwise == 0).all(axis=-1).reshape(-1)
    np.testing.assert_array_equal(
        closed, [False, False, True, True, False, False]
    )
    # The slice of the depthwise kernel, and two rows of the pointwise one.
    assert layer.gate.group_size == 2 * 2 * 2 + 2 * 5
