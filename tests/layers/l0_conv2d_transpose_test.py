import keras

from l0keras.layers import L0Conv2DTranspose
from tests.layers.gated_layer_tests import GatedLayerTests


class TestL0Conv2DTranspose(GatedLayerTests):
    layer_class = L0Conv2DTranspose
    plain_class = keras.layers.Conv2DTranspose
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
            (2, 4, 5, 3),
        ),
        (
            {
                "filters": 2,
                "kernel_size": 3,
                "strides": 2,
                "output_padding": 1,
                "activation": "tanh",
                "use_bias": False,
            },
            (2, 4, 4, 3),
        ),
        ({"filters": 3, "kernel_size": 2, "dilation_rate": 2}, (2, 4, 5, 2)),
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
        "output_padding": (0, 1),
        "data_format": "channels_first",
        "dilation_rate": (1, 1),
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
