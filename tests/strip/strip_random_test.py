"""Strip against the gated model itself, on random chains."""

import keras
import numpy as np
import pytest
from hypothesis import Phase
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import l0keras
from l0keras.graph import BARRIER
from l0keras.strip import plan
from tests.strip.random_chain import random_chain

# A softmax of one unit, which Keras takes for a slip, may come up.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax")


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


# JAX compiles each operation anew for each shape.
EXAMPLES = 60 if keras.backend.backend() == "tensorflow" else 15
# Of what the chains are made of, only these may be barriers.
MIXING = {"Softmax", "LayerNormalization"}


def barriers(model):
    """The layers that were not understood although they have a rule."""
    return [
        (node.name, node.reasons)
        for node in plan(model).nodes
        if node.rule is BARRIER
        and type(node.layer).__name__ not in MIXING
        and "mix" not in node.reasons[0]
        and "along" not in node.reasons[0]
    ]


def check(model, rng):
    assert not barriers(model)
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


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_outputs_stay(data):
    check(*random_chain(data))


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no channels_first convolutions on CPUs",
)
@settings(max_examples=EXAMPLES)
@given(st.data())
def test_outputs_stay_with_channels_first(data):
    check(*random_chain(data, data_format="channels_first"))


@pytest.mark.slow
@settings(max_examples=2000, phases=[Phase.generate])
@given(st.data())
def test_outputs_stay_on_many(data):
    check(*random_chain(data))
