import keras
import numpy as np
import pytest
from keras import layers

from l0keras.export import to_tf_keras
from l0keras.export.bridge.weights import copy_from_tf_keras
from tests import networks
from tests.export.bridge.to_tf_keras_test import OPERATIONS
from tests.export.bridge.to_tf_keras_test import SEQUENCE

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="tf_keras runs on TensorFlow",
)


def assert_comes_back(model):
    """Sends other weights back and checks whose they are; returns the copy."""
    rng = np.random.default_rng(0)
    networks.randomize(model, rng)
    inputs = networks.random_inputs(model, rng)
    converted = to_tf_keras(model)
    before = networks.outputs_of(model, inputs)
    changed = [np.float32(0.8) * w for w in converted.get_weights()]
    converted.set_weights(changed)
    copy = copy_from_tf_keras(converted, model)
    for output, expected in zip(
        networks.outputs_of(copy, inputs),
        keras.tree.flatten(converted(inputs, training=False)),
        strict=True,
    ):
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
    for output, expected in zip(
        networks.outputs_of(model, inputs), before, strict=True
    ):
        np.testing.assert_array_equal(output, expected)
    assert copy.get_config() == model.get_config()
    return copy


@pytest.mark.parametrize(
    "make",
    [
        *(networks.depthwise, networks.nested, networks.sequence),
        *(networks.shared_layer, networks.two_outputs),
    ],
)
def test_networks_come_back(make):
    assert_comes_back(make())


@pytest.mark.parametrize(
    "name", ["add", "add a number", "reshape", "relu of Keras", "mean"]
)
def test_operations_without_a_layer_come_back(name):
    inputs = [keras.Input(SEQUENCE, name=name) for name in "ab"]
    x = [layers.Dense(4)(x) for x in inputs]
    assert_comes_back(keras.Model(inputs, OPERATIONS[name](*x)))


def test_frozen_layers_stay_frozen():
    model = networks.chain()
    model.layers[1].trainable = False
    copy = assert_comes_back(model)
    assert [x.trainable for x in copy.layers] == [
        x.trainable for x in model.layers
    ]
