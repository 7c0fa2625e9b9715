import keras

from l0keras.layers import L0Conv3D
from tests.layers.gated_layer_tests import GatedLayerTests


class TestL0Conv3D(GatedLayerTests):
    layer_class = L0Conv3D
    plain_class = keras.layers.Conv3D
    default_granularity = "output"
    variants = [
        ({"filters": 4, "kernel_size": 2}, (4, 3, 4, 5, 3)),
        (
            {
                "filters": 4,
                "kernel_size": (1, 2, 3),
                "strides": (1, 2, 1),
                "padding": "same",
                "activation": "sigmoid",
            },
            (2, 3, 4, 5, 2),
        ),
        (
            {"filters": 2, "kernel_size": 2, "groups": 2, "use_bias": False},
            (2, 3, 3, 3, 4),
        ),
        (
            {
                "filters": 2,
                "kernel_size": 2,
                "data_format": "channels_first",
                "activation": "relu",
            },
            # Not 3 at the end: Keras 3.15 on TensorFlow adds the bias along
            # the wrong axis if the last size is the number of filters.
            (2, 3, 3, 4, 5),
        ),
    ]
    other_arguments = {
        "filters": 6,
        "kernel_size": (1, 2, 3),
        "strides": (1, 2, 2),
        "padding": "same",
        "data_format": "channels_first",
        "dilation_rate": (1, 1, 1),
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
