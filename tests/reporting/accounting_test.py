import keras
import numpy as np
from keras import layers

import l0keras
from l0keras.layers import L0Conv2D
from l0keras.layers import L0Dense
from l0keras.layers import L0DepthwiseConv2D


def lenet5():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L0Conv2D(20, 5, activation="relu", name="conv1"),
            layers.MaxPooling2D(),
            L0Conv2D(50, 5, activation="relu", name="conv2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            L0Dense(500, activation="relu", name="dense1"),
            L0Dense(10, name="dense2"),
        ]
    )


def set_open(gate, count):
    log_alpha = np.full(gate.log_alpha.shape, -5.0)
    log_alpha[:count] = 5.0
    gate.log_alpha.assign(log_alpha)


def test_architecture_counts_open_gates():
    model = lenet5()
    for gate, count in zip(l0keras.gates_of(model), (20, 25, 45, 462)):
        set_open(gate, count)
    assert l0keras.architecture(model) == "20-25-45-462"


def test_architecture_of_a_plain_model():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.Conv2D(6, 1, groups=2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    assert l0keras.architecture(model) == "8-6-96"


def test_architecture_after_stripping():
    model = lenet5()
    conv1, conv2, dense1, dense2 = l0keras.gates_of(model)
    set_open(conv1, 7)
    set_open(conv2, 9)
    # The first two positions of all maps: only 9 maps are there.
    set_open(dense1, 100)
    set_open(dense2, 30)
    stripped = l0keras.strip(model)
    assert l0keras.architecture(model) == "7-9-100-30"
    assert l0keras.architecture(stripped, model) == "7-9-18-30"
    assert l0keras.architecture(stripped) == "7-9-18-30"


def test_architecture_follows_granularity():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            L0DepthwiseConv2D(3, granularity="input"),
            layers.Conv2D(5, 1),
            L0Conv2D(6, 1, granularity="weight"),
            layers.Flatten(),
            L0Dense(8, granularity="output"),
            layers.Dense(2),
        ]
    )
    depthwise, conv, dense = l0keras.gates_of(model)
    set_open(depthwise, 3)
    log_alpha = np.full(conv.log_alpha.shape, -5.0)
    log_alpha[..., 2, [1, 4]] = 5.0
    conv.log_alpha.assign(log_alpha)
    set_open(dense, 5)
    assert l0keras.architecture(model) == "3-2-5"
    stripped = l0keras.strip(model)
    assert l0keras.architecture(stripped, model) == "3-2-5"
