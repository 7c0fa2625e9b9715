"""Layers that prepare images and features, where others have channels."""

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks

SCALE = {"value_range": (0, 1)}


@pytest.mark.parametrize(
    "layer",
    [
        layers.CenterCrop(3, 2),
        layers.RandomBrightness(0.5, **SCALE),
        layers.RandomContrast(0.5),
        layers.RandomErasing(),
        layers.RandomFlip(),
        layers.RandomRotation(0.2),
        layers.RandomSharpness(0.5, **SCALE),
        layers.Solarization(**SCALE),
    ],
    ids=lambda layer: layer.name,
)
def test_channels_pass_images(layer, tmp_path):
    rng = np.random.default_rng(0)
    model = checks.around(layer, shape=(4, 4, 3))
    assert checks.closed(model, rng, bias=0.5, tmp_path=tmp_path) == 4
    assert not checks.barriers(model)
    gated = l0keras.sparsify(model)
    (gate,) = l0keras.gates_of(gated)
    gate.log_alpha.assign([3.0, -8.0, 0.3, -8.0, 3.0, -8.0])
    stripped = checks.check(gated, rng)
    assert stripped.get_layer("before").units <= 3
    # In training they have to work on fewer channels, too.
    x = np.ones((2, 4, 4, 3), "float32")
    assert np.all(np.isfinite(stripped(x, training=True)))


STRINGS = {"vocabulary": ["a", "b"], "output_mode": "multi_hot"}


@pytest.mark.parametrize(
    "layer, dtype",
    [
        (layers.CategoryEncoding(5), "int32"),
        (layers.Hashing(5, output_mode="multi_hot"), "int32"),
        (layers.IntegerLookup(vocabulary=[1, 2], output_mode="count"), "int32"),
        (layers.StringLookup(**STRINGS), "string"),
        (layers.Discretization([-1.0, 1.0], output_mode="count"), "float32"),
    ],
    ids=lambda x: getattr(x, "name", x),
)
def test_categories_are_read_whole_and_the_rest_is_gated(layer, dtype):
    if dtype == "string" and keras.backend.backend() != "tensorflow":
        pytest.skip("Only TensorFlow has strings.")
    rng = np.random.default_rng(0)
    inputs = keras.Input((3,), dtype=dtype)
    x = layers.Dense(6, activation="relu", name="before")(layer(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    gated = l0keras.sparsify(model)
    (gate,) = l0keras.gates_of(gated)
    gate.log_alpha.assign([3.0, -8.0, 0.3, -8.0, 3.0, -8.0])
    stripped = l0keras.strip(gated)
    assert stripped.get_layer("before").units == 3
    data = rng.integers(0, 4, (4, 3)).astype("float32")
    x = np.array([["a", "b", "c"]]) if dtype == "string" else data
    x = keras.ops.convert_to_tensor(x, dtype)
    np.testing.assert_allclose(gated(x), stripped(x), atol=1e-5)
    assert "categories" in checks.barriers(model)[layer.name]
