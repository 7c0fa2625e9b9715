import keras
import numpy as np
import pytest

from l0keras.layers import L0LSTM
from tests.layers.gated_layer_tests import numpy
from tests.layers.gated_layer_tests import random
from tests.layers.gated_rnn_tests import FusedRNNTests


class TestL0LSTM(FusedRNNTests):
    layer_class = L0LSTM
    plain_class = keras.layers.LSTM
    states = 2
    variants = [
        (
            {
                "units": 4,
                "return_sequences": True,
                # TensorFlow has no orthogonal one in bfloat16.
                "recurrent_initializer": "glorot_uniform",
            },
            (4, 5, 3),
        ),
        ({"units": 3}, (4, 5, 3)),
        (
            {
                "units": 3,
                "activation": "relu",
                "recurrent_activation": "hard_sigmoid",
                "use_bias": False,
                "go_backwards": True,
                "return_sequences": True,
            },
            (2, 4, 2),
        ),
        ({"units": 3, "unroll": True}, (2, 3, 2)),
        ({"units": 3, "implementation": 1}, (2, 4, 2)),
    ]
    other_arguments = {
        "units": 6,
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
        "unroll": True,
        "use_cudnn": False,
    }


@pytest.mark.parametrize("return_state", [False, True])
def test_group_size(return_state):
    layer = L0LSTM(5, return_state=return_state)
    layer.build((None, None, 3))
    # Columns of the kernel, a row of the recurrent kernel, biases.
    assert layer.gate.group_size == 4 * 3 + 4 * 5 + 4


def test_given_gates_take_the_place_of_its_own():
    inputs, gates = random((4, 5, 3)), random((1, 6), seed=1)
    layer = L0LSTM(6)
    outputs = layer(inputs, gates=gates)
    assert layer.gate is None and len(layer.weights) == 3
    plain = keras.layers.LSTM(6)
    plain.build(inputs.shape)
    kernel, recurrent_kernel, bias = layer.get_weights()
    plain.set_weights([kernel, recurrent_kernel * gates[0][:, None], bias])
    expected = numpy(plain(inputs)) * gates
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)
    # Those of each example.
    same = np.repeat(gates, 4, axis=0)
    outputs = layer(inputs, gates=same)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="no gates of its own"):
        layer.bake()
