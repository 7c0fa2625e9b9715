import keras

from l0keras.layers import L0SimpleRNN
from tests.layers.gated_rnn_tests import GatedRNNTests


class TestL0SimpleRNN(GatedRNNTests):
    layer_class = L0SimpleRNN
    plain_class = keras.layers.SimpleRNN
    states = 1
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
        ({"units": 3, "unroll": True}, (2, 3, 2)),
        (
            {
                "units": 3,
                "activation": "relu",
                "use_bias": False,
                "go_backwards": True,
            },
            (2, 4, 2),
        ),
    ]
    other_arguments = {
        "units": 6,
        "activation": "relu",
        "use_bias": False,
        "kernel_initializer": "he_normal",
        "recurrent_initializer": "he_uniform",
        "bias_initializer": "ones",
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
    }


def test_group_size():
    layer = L0SimpleRNN(5)
    layer.build((None, None, 3))
    # Columns of the kernel, a row of the recurrent kernel, biases.
    assert layer.gate.group_size == 3 + 5 + 1
