import keras
import numpy as np
import pytest

from l0keras.layers import L0GRU
from tests.layers.gated_rnn_tests import FusedRNNTests


class TestL0GRU(FusedRNNTests):
    layer_class = L0GRU
    plain_class = keras.layers.GRU
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
        ({"units": 3, "reset_after": False}, (3, 5, 2)),
        ({"units": 3, "unroll": True}, (2, 3, 2)),
        (
            {"units": 3, "reset_after": False, "implementation": 1},
            (2, 4, 2),
        ),
        ({"units": 3, "use_bias": False, "implementation": 1}, (2, 4, 2)),
    ]
    other_arguments = {
        "units": 6,
        "activation": "relu",
        "recurrent_activation": "hard_sigmoid",
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
        "reset_after": False,
        "seed": 9,
        "return_sequences": True,
        "return_state": True,
        "go_backwards": True,
        "stateful": True,
        "unroll": True,
        "use_cudnn": False,
    }


@pytest.mark.parametrize(
    "arguments, biases",
    [({}, 6), ({"reset_after": False}, 3), ({"use_bias": False}, 0)],
)
@pytest.mark.parametrize("return_state", [False, True])
def test_group_size(arguments, biases, return_state):
    layer = L0GRU(5, return_state=return_state, **arguments)
    layer.build((None, None, 3))
    # Columns of the kernel, a row of the recurrent kernel, biases.
    assert layer.gate.group_size == 3 * 3 + 3 * 5 + biases


def test_the_recurrent_bias_is_not_scaled():
    layer = L0GRU(2, log_alpha_limit=None)
    layer.build((None, 3, 2))
    layer.gate.log_alpha.assign([0.0, 0.0])
    layer.cell.bias.assign(np.arange(12.0).reshape(2, 6))
    plain, _ = layer.bake().layers
    np.testing.assert_array_equal(plain.cell.bias, layer.cell.bias)
    np.testing.assert_allclose(
        plain.cell.recurrent_kernel,
        0.5 * keras.ops.convert_to_numpy(layer.cell.recurrent_kernel),
        rtol=1e-5,
    )
