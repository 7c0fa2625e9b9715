"""Strip against the gated model itself, on random chains."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import l0keras
from tests.strip.random_chain import random_chain


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def check(model, rng):
    x = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    expected = outputs(model, x)
    stripped = l0keras.strip(model)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(
        outputs(stripped, x), expected, rtol=0, atol=1e-5 * scale
    )
    assert not l0keras.gates_of(stripped)
    again = l0keras.strip(stripped)
    assert again.count_params() == stripped.count_params()
    np.testing.assert_allclose(
        outputs(again, x), expected, rtol=0, atol=1e-5 * scale
    )
    # The caller's model is as it was.
    np.testing.assert_array_equal(outputs(model, x), expected)


@settings(max_examples=60)
@given(st.data())
def test_outputs_stay(data):
    check(*random_chain(data))


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no channels_first convolutions on CPUs",
)
@settings(max_examples=40)
@given(st.data())
def test_outputs_stay_with_channels_first(data):
    check(*random_chain(data, data_format="channels_first"))


@pytest.mark.slow
@settings(max_examples=2000)
@given(st.data())
def test_outputs_stay_on_many(data):
    check(*random_chain(data))
