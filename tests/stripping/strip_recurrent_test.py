"""Gated recurrent layers, as `sparsify` makes and `strip` cuts them."""

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks

UNITS = 6


def masks(rng, batch=4, steps=5):
    """One for each example, with steps left out at both ends and between."""
    mask = rng.random((batch, steps)) < 0.6
    mask[0] = True
    mask[1] = [False, False, True, True, False]
    return mask


def gated_and_stripped(model, inputs, rng, tmp_path=None):
    """Sparsifies, closes gates at random, strips, and compares each step.

    Returns:
        The gated model and the stripped one.
    """
    checks.spread(model, rng)
    expected = checks.outputs_of(model, inputs)
    gated = l0keras.sparsify(model, seed=1)
    checks.same(checks.outputs_of(gated, inputs), expected)
    for gate in l0keras.gates_of(gated):
        closed = rng.permutation(gate.log_alpha.shape[0]) % 2 == 0
        others = rng.uniform(-1.5, 3.0, closed.shape)
        gate.log_alpha.assign(np.where(closed, -8.0, others))
    expected = checks.outputs_of(gated, inputs)
    stripped = l0keras.strip(gated)
    checks.same(checks.outputs_of(stripped, inputs), expected)
    assert not l0keras.gates_of(stripped)
    for one in (gated, stripped):
        if tmp_path is not None:
            one.save(tmp_path / "model.keras")
            one = keras.models.load_model(tmp_path / "model.keras")
            checks.same(checks.outputs_of(one, inputs), expected)
    return gated, stripped


@pytest.mark.parametrize("source", ["Masking", "Embedding", "argument"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_masked_units_are_cut(kind, source, tmp_path):
    rng = np.random.default_rng(0)
    mask = masks(rng)
    if source == "Embedding":
        given = keras.Input((5,), dtype="int32")
        x = layers.Embedding(4, 3, mask_zero=True)(given)
        inputs = [np.where(mask, rng.integers(1, 4, mask.shape), 0)]
    else:
        given = keras.Input((5, 3))
        x = given
        inputs = [rng.normal(size=(4, 5, 3)).astype("float32")]
    call = {}
    if source == "Masking":
        x = layers.Masking()(x)
        inputs[0][~mask] = 0.0
    elif source == "argument":
        call["mask"] = keras.Input((5,), dtype="bool")
        given = [given, call["mask"]]
        inputs.append(mask)
    rnn = getattr(layers, kind)
    x = rnn(UNITS, return_sequences=True, name="first")(x, **call)
    if source == "argument":
        call["mask"] = x._keras_mask
    x = rnn(UNITS, name="second")(x, **call)
    model = keras.Model(given, layers.Dense(2)(x))
    _, stripped = gated_and_stripped(model, inputs, rng, tmp_path)
    for name in ("first", "second"):
        assert type(stripped.get_layer(name)) is rnn
        assert stripped.get_layer(name).units == UNITS // 2
    # The scale of open gates is in the weights of those that read them.
    kinds = {type(layer) for layer in stripped.layers}
    assert layers.Rescaling not in kinds
    assert l0keras.count_macs(stripped) < l0keras.count_macs(model)
