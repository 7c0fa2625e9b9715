"""Stripped models are quantized by Keras, as the guide to precision says."""

import keras
import numpy as np
import pytest

import l0keras


def stripped():
    """A model of tokens with half of its units, and its inputs."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,), dtype="int32", name="words")
    x = keras.layers.Embedding(50, 16, name="embedding")(inputs)
    x = keras.layers.Dense(32, activation="relu", name="hidden")(x)
    x = keras.layers.Dense(16, activation="relu", name="outer")(x)
    x = keras.layers.GlobalAveragePooling1D(name="mean")(x)
    model = keras.Model(inputs, keras.layers.Dense(5, name="logits")(x))
    gated = l0keras.sparsify(model)
    for gate in l0keras.gates_of(gated):
        size = gate.log_alpha.shape[0]
        gate.log_alpha.assign(np.where(np.arange(size) % 2, -9.0, 9.0))
    words = np.random.default_rng(0).integers(0, 50, (16, 12)).astype("int32")
    small = l0keras.strip(gated)
    assert small.get_layer("hidden").units == 16
    return small, words


def difference(found, wanted):
    return np.abs(found - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize("mode, bound", [("int8", 0.02), ("int4", 0.2)])
def test_integers_are_near_and_saved(mode, bound, tmp_path):
    small, words = stripped()
    expected = small.predict(words, verbose=0)
    small.quantize(mode, filters="hidden|outer|logits")
    assert small.get_layer("hidden").quantization_mode == mode
    found = small.predict(words, verbose=0)
    assert 0 < difference(found, expected) < bound
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(
        loaded.predict(words, verbose=0), found, atol=1e-6
    )
    # Stripped again, it stays what it is.
    again = l0keras.strip(small)
    assert again.get_layer("hidden").quantization_mode == mode
    np.testing.assert_allclose(
        again.predict(words, verbose=0), found, atol=1e-5
    )


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="compiles every operation"
)
def test_gptq_takes_layers_in_a_row():
    small, words = stripped()
    expected = small.predict(words, verbose=0)
    layers = [small.get_layer(name) for name in ("hidden", "outer")]
    config = keras.quantizers.GPTQConfig(
        list(words[:4]),
        tokenizer=lambda tokens: tokens,
        num_samples=4,
        sequence_length=12,
        group_size=-1,
        quantization_layer_structure={
            "pre_block_layers": [small.get_layer("embedding")],
            "sequential_blocks": layers,
        },
    )
    small.quantize(config=config, filters="hidden|outer")
    assert {one.quantization_mode for one in layers} == {"gptq"}
    found = small.predict(words, verbose=0)
    assert 0 < difference(found, expected) < 0.2
