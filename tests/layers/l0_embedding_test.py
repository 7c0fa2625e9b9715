import keras
import numpy as np
import pytest
from keras import ops

from l0keras.layers import L0Embedding
from tests.layers.gated_layer_tests import GatedLayerTests
from tests.layers.gated_layer_tests import numpy
from tests.layers.gated_layer_tests import random


class TestL0Embedding(GatedLayerTests):
    layer_class = L0Embedding
    plain_class = keras.layers.Embedding
    default_granularity = "output"
    variants = [
        ({"input_dim": 7, "output_dim": 4}, (6, 5)),
        ({"input_dim": 5, "output_dim": 3, "mask_zero": True}, (4, 2, 3)),
        ({"input_dim": 6, "output_dim": 2}, (8,)),
        ({"input_dim": 4, "output_dim": 1}, (3, 4)),
    ]
    other_arguments = {
        "input_dim": 7,
        "output_dim": 4,
        "embeddings_initializer": "he_normal",
        "embeddings_regularizer": "l1",
        "embeddings_constraint": "non_neg",
        "mask_zero": True,
        "weights": None,
        "lora_rank": None,
        "lora_alpha": None,
        "quantization_config": None,
    }

    def inputs(self, shape, seed=0):
        # Entries that all variants have.
        return np.random.default_rng(seed).integers(0, 4, shape)

    def symbolic(self, shape):
        return keras.Input(shape[1:], dtype="int32")

    def gate(self, plain, granularity, inputs, gates):
        (embeddings,) = plain.get_weights()
        if granularity == "input":
            gates = gates[:, None]
        return (embeddings * gates)[inputs]


@pytest.mark.parametrize("granularity", ["input", "output"])
def test_each_example_has_gates_of_its_own_for_all_of_its_entries(granularity):
    layer = L0Embedding(
        5, 4, granularity=granularity, sample_per="example", seed=1
    )
    layer.build()
    layer.embeddings.assign(np.ones((5, 4)))
    inputs = np.array([[1, 2, 1, 3], [1, 2, 1, 3], [3, 1, 2, 2]])
    gates = numpy(layer(inputs, training=True))
    # An entry that comes twice in an example has the same gates.
    np.testing.assert_array_equal(gates[:, :, :][0, 0], gates[0, 2])
    np.testing.assert_array_equal(gates[2, 2], gates[2, 3])
    if granularity == "input":
        assert np.ptp(gates, axis=-1).max() == 0
        assert (gates[0, 0] != gates[0, 1]).any()
    else:
        assert np.ptp(gates, axis=1).max() == 0
    assert (gates[0] != gates[1]).any()


@pytest.mark.parametrize("listed", [False, True])
def test_starts_from_given_weights(listed):
    weights = random((5, 3))
    layer = L0Embedding(5, 3, weights=[weights] if listed else weights)
    np.testing.assert_array_equal(layer.embeddings, weights)
    assert layer.gate.log_alpha.shape == (3,)


def test_makes_and_passes_masks_on():
    model = keras.Sequential(
        [L0Embedding(5, 3, mask_zero=True), keras.layers.LSTM(2)]
    )
    # Both end in padding, which the LSTM must not see.
    short = model.predict(np.array([[1, 2, 0]]), verbose=0)
    long = model.predict(np.array([[1, 2, 0, 0, 0]]), verbose=0)
    np.testing.assert_allclose(short, long, rtol=1e-5)
    assert not L0Embedding(5, 3).supports_masking
    baked = model.layers[0].bake()
    np.testing.assert_array_equal(
        baked.compute_mask(ops.array([[1, 0]])), [[True, False]]
    )


def test_looks_up_floats_as_keras_does():
    layer = L0Embedding(5, 3)
    np.testing.assert_array_equal(
        layer(np.array([[1.0, 2.0]])), layer(np.array([[1, 2]]))
    )
