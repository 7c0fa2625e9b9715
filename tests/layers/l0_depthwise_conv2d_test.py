import keras

from l0keras.layers import L0DepthwiseConv2D
from tests.layers.gated_layer_tests import GatedLayerTests


class TestL0DepthwiseConv2D(GatedLayerTests):
    layer_class = L0DepthwiseConv2D
    plain_class = keras.layers.DepthwiseConv2D
    default_granularity = "output"
    variants = [
        ({"kernel_size": 3}, (4, 5, 6, 3)),
        (
            {"kernel_size": 2, "depth_multiplier": 2, "activation": "sigmoid"},
            (2, 4, 5, 3),
        ),
        (
            {
                "kernel_size": 3,
                "strides": 2,
                "padding": "same",
                "depth_multiplier": 3,
                "use_bias": False,
                "activation": "tanh",
            },
            (2, 5, 5, 2),
        ),
        (
            {
                "kernel_size": 2,
                "depth_multiplier": 2,
                "data_format": "channels_first",
                "activation": "relu",
            },
            (2, 3, 4, 5),
        ),
        ({"kernel_size": 2, "dilation_rate": 2}, (2, 6, 6, 3)),
        ({"kernel_size": 1, "depth_multiplier": 4}, (2, 3, 3, 1)),
    ]
    other_arguments = {
        "kernel_size": (2, 3),
        "strides": (2, 2),
        "padding": "same",
        "depth_multiplier": 2,
        "data_format": "channels_first",
        "dilation_rate": (1, 1),
        "activation": "relu",
        "use_bias": False,
        "depthwise_initializer": "he_normal",
        "bias_initializer": "ones",
        "depthwise_regularizer": "l1",
        "bias_regularizer": "l2",
        "activity_regularizer": "l2",
        "depthwise_constraint": "non_neg",
        "bias_constraint": "max_norm",
    }
