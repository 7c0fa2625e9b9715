"""What the tests of the functions on top of tfmot share."""

import keras
import numpy as np
import pytest
from keras import layers

from tests import networks

tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="tf_keras runs on TensorFlow",
)


def network():
    inputs = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(6, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    x = layers.Dense(12, activation="hard_silu", name="dense")(x)
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x))
    networks.randomize(model, np.random.default_rng(1))
    return model


def data(examples=96):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(examples, 8, 8, 2)).astype("float32")
    return x, rng.integers(0, 3, examples)


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def kernels(model):
    return {
        name: keras.ops.convert_to_numpy(model.get_layer(name).kernel)
        for name in ("conv", "dense", "logits")
    }


def assert_untouched(function):
    """Runs a function of a model and checks that the model is as it was."""
    model = network()
    model.compile(keras.optimizers.SGD(0.1), loss())
    weights = model.get_weights()
    config = model.get_config()
    result = function(model)
    for weight, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, before)
    assert model.get_config() == config
    assert model.optimizer.iterations == 0
    model.fit(*data(32), verbose=0)
    assert np.any(model.get_weights()[0] != weights[0])
    return result
