import keras

from l0keras.layers import L0Conv1D
from tests.layers.gated_layer_tests import GatedLayerTests


class TestL0Conv1D(GatedLayerTests):
    layer_class = L0Conv1D
    plain_class = keras.layers.Conv1D
    default_granularity = "output"
    variants = [
        ({"filters": 4, "kernel_size": 3}, (4, 8, 3)),
        (
            {"filters": 4, "kernel_size": 2, "padding": "causal"},
            (2, 8, 3),
        ),
        (
            {
                "filters": 4,
                "kernel_size": 3,
                "padding": "causal",
                "dilation_rate": 2,
                "activation": "tanh",
                "use_bias": False,
            },
            (2, 9, 3),
        ),
        (
            {
                "filters": 4,
                "kernel_size": 3,
                "strides": 2,
                "padding": "same",
                "activation": "sigmoid",
            },
            (2, 9, 3),
        ),
        (
            {"filters": 6, "kernel_size": 3, "groups": 2},
            (2, 8, 4),
        ),
        (
            {
                "filters": 4,
                "kernel_size": 3,
                "data_format": "channels_first",
                "activation": "relu",
            },
            (2, 3, 8),
        ),
    ]
    other_arguments = {
        "filters": 6,
        "kernel_size": (2,),
        "strides": (1,),
        "padding": "causal",
        "data_format": "channels_first",
        "dilation_rate": (2,),
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
