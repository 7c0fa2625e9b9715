import keras
import numpy as np
import pytest

from l0keras.layers import L0ConvLSTM1D
from l0keras.layers import L0ConvLSTM2D
from l0keras.layers import L0ConvLSTM3D
from tests.layers.gated_layer_tests import random
from tests.layers.gated_rnn_tests import RecurrentTests


class TestL0ConvLSTM2D(RecurrentTests):
    layer_class = L0ConvLSTM2D
    plain_class = keras.layers.ConvLSTM2D
    variants = [
        (
            {
                "filters": 4,
                "kernel_size": 2,
                "return_sequences": True,
                # TensorFlow has no orthogonal one in bfloat16.
                "recurrent_initializer": "glorot_uniform",
            },
            (3, 3, 4, 4, 2),
        ),
        (
            {
                "filters": 3,
                "kernel_size": (1, 2),
                "padding": "same",
                "strides": 2,
                "activation": "relu",
                "recurrent_activation": "hard_sigmoid",
                "use_bias": False,
                "go_backwards": True,
            },
            (2, 3, 4, 4, 2),
        ),
    ]
    other_arguments = {
        "filters": 6,
        "kernel_size": (2, 2),
        "strides": (2, 2),
        "padding": "same",
        "data_format": "channels_first",
        "dilation_rate": (1, 1),
        "activation": "relu",
        "recurrent_activation": "hard_sigmoid",
        "use_bias": False,
        "kernel_initializer": "he_normal",
        "recurrent_initializer": "he_uniform",
        "bias_initializer": "ones",
        "unit_forget_bias": False,
        "kernel_regularizer": "l1",
        "recurrent_regularizer": "l2",
        "bias_regularizer": "l2",
        "activity_regularizer": "l2",
        "kernel_constraint": "non_neg",
        "recurrent_constraint": "unit_norm",
        "bias_constraint": "max_norm",
        "dropout": 0.1,
        "recurrent_dropout": 0.2,
        "seed": 9,
        "return_sequences": True,
        "return_state": True,
        "go_backwards": True,
        "stateful": True,
    }


@pytest.mark.parametrize(
    "rank, data_format",
    [
        (1, "channels_last"),
        (2, "channels_last"),
        (2, "channels_first"),
        (3, "channels_last"),
    ],
)
def test_each_output_has_its_gates(rank, data_format):
    layer_class = (L0ConvLSTM1D, L0ConvLSTM2D, L0ConvLSTM3D)[rank - 1]
    layer = layer_class(
        3,
        2,
        data_format=data_format,
        return_sequences=True,
        return_state=True,
        log_alpha_limit=None,
    )
    first = data_format == "channels_first"
    sizes = (2, *[3] * rank) if first else (*[3] * rank, 2)
    inputs = random((2, 3, *sizes))
    layer.build(inputs.shape)
    # Kernel, recurrent kernel and bias.
    assert layer.gate.group_size == 2**rank * 4 * (2 + 3) + 4
    layer.gate.log_alpha.assign([0.5, -100.0, 100.0])
    gates = layer.gate.test_gates()
    plain = layer.plain_class.from_config(layer._plain_config())
    plain.build(inputs.shape)
    kernel, recurrent_kernel, bias = (
        keras.ops.convert_to_numpy(w) for w in layer.weights[:3]
    )
    recurrent_kernel = recurrent_kernel * gates[:, None]
    plain.set_weights([kernel, recurrent_kernel, bias])
    outputs = layer(inputs)
    baked = layer.bake()(inputs)
    for value, gated, other in zip(plain(inputs), outputs, baked, strict=True):
        shape = [1] * len(value.shape)
        shape[-1 - rank if first else -1] = 3
        expected = keras.ops.convert_to_numpy(value) * gates.reshape(shape)
        np.testing.assert_allclose(gated, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(other, expected, rtol=1e-4, atol=1e-6)
