import keras
import numpy as np

from l0keras import gates_of
from l0keras.layers import L0Dense
from tests.layers.gated_layer_tests import GatedLayerTests
from tests.testing import gradient
from tests.testing import train_steps


class TestL0Dense(GatedLayerTests):
    layer_class = L0Dense
    plain_class = keras.layers.Dense
    default_granularity = "input"
    variants = [
        ({"units": 4}, (6, 5)),
        ({"units": 4, "activation": "relu"}, (6, 5)),
        ({"units": 4, "use_bias": False, "activation": "sigmoid"}, (6, 5)),
        ({"units": 3, "activation": "tanh"}, (2, 3, 4)),
        ({"units": 2}, (2, 3, 2, 4)),
        ({"units": 1}, (4, 3)),
    ]
    other_arguments = {
        "units": 3,
        "activation": "relu",
        "use_bias": False,
        "kernel_initializer": "he_normal",
        "bias_initializer": "ones",
        "kernel_regularizer": "l1",
        "bias_regularizer": "l2",
        "activity_regularizer": "l2",
        "kernel_constraint": "non_neg",
        "bias_constraint": "max_norm",
        "lora_rank": None,
        "lora_alpha": None,
        "quantization_config": None,
    }


def test_gradients_are_those_of_gated_weights():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(5, 3, 4)).astype("float32")
    upstream = rng.normal(size=(5, 3, 2)).astype("float32")
    kernel = rng.normal(size=(4, 2)).astype("float32")
    layer = L0Dense(2, use_bias=False)
    layer.build(inputs.shape)
    layer.kernel.assign(kernel)
    log_alpha = np.array([-1.5, 0.3, 1.0, 2.0], "float32")
    layer.gate.log_alpha.assign(log_alpha)

    def loss(layer_inputs):
        return layer(layer_inputs) * upstream

    gates = 1.2 / (1 + np.exp(-log_alpha)) - 0.1
    np.testing.assert_allclose(
        gradient(loss, inputs),
        upstream @ (gates[:, None] * kernel).T,
        rtol=1e-4,
        atol=1e-5,
    )
    # A step of gradient descent shows the other two.
    flat, d_out = inputs.reshape(-1, 4), upstream.reshape(-1, 2)
    d_kernel = gates[:, None] * (flat.T @ d_out)
    d_gates = np.sum(kernel * (flat.T @ d_out), axis=1)
    share = (gates + 0.1) / 1.2
    d_log_alpha = d_gates * 1.2 * share * (1 - share)

    def product(targets, outputs):
        return keras.ops.sum(targets * outputs)

    # The test gates, which still pass gradients on, make it computable.
    sample = layer.gate.values
    layer.gate.values = lambda training, size: sample(False, size)
    train_steps(
        keras.Sequential([keras.Input((3, 4)), layer]),
        inputs,
        upstream,
        loss=product,
        optimizer=keras.optimizers.SGD(1e-3),
    )
    moved = kernel - keras.ops.convert_to_numpy(layer.kernel)
    np.testing.assert_allclose(moved / 1e-3, d_kernel, atol=5e-3)
    moved = log_alpha - keras.ops.convert_to_numpy(layer.gate.log_alpha)
    np.testing.assert_allclose(moved / 1e-3, d_log_alpha, atol=5e-3)


def test_passes_masks_on():
    model = keras.Sequential(
        [
            keras.layers.Embedding(5, 3, mask_zero=True),
            L0Dense(2),
            keras.layers.LSTM(2),
        ]
    )
    # Both end in padding, which the LSTM must not see.
    short = model.predict(np.array([[1, 2, 0]]), verbose=0)
    long = model.predict(np.array([[1, 2, 0, 0, 0]]), verbose=0)
    np.testing.assert_allclose(short, long, rtol=1e-5)


def test_fit_closes_the_gates_of_irrelevant_inputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 10)).astype("float32")
    y = np.sin(2 * x[:, :1]) + np.tanh(3 * x[:, 1:2]) - x[:, 2:3]
    model = keras.Sequential(
        [
            keras.Input((10,)),
            L0Dense(32, activation="tanh", l0=1e-3, seed=1),
            L0Dense(1, l0=1e-2, seed=2),
        ]
    )
    train_steps(model, x, y, 400, optimizer=keras.optimizers.Adam(0.03))
    first, second = gates_of(model)
    gates = first.test_gates()
    assert (gates[:3] > 0.5).all()
    assert (gates[3:] == 0).all()
    assert second.count_open() < 32
    error = np.mean((model.predict(x, verbose=0) - y) ** 2)
    assert error < 0.2 * np.var(y)
