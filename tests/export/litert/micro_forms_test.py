import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.export.litert.source import KerasSource

if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT files need TensorFlow", allow_module_level=True)
pytest.importorskip("tflite_micro")

X = 3 * np.random.default_rng(0).normal(size=(64, 6, 6, 4)).astype("float32")


def model_of(make, shape=(6, 6, 4), dtype="float32"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, make(inputs))


def many(x):
    """Activations of all kinds."""
    return [
        layers.Dense(4, activation="gelu")(x),
        layers.Activation("gelu")(x),
        ops.gelu(x, approximate=False),
        ops.gelu(x, approximate=True),
        layers.Activation("elu")(x),
        layers.ELU(0.3)(x),
        ops.elu(x, 0.7),
        layers.Activation("selu")(x),
        ops.selu(x),
        layers.Activation("celu")(x),
        ops.celu(x, 0.6),
    ]


@pytest.mark.parametrize("mode, atol", [(None, 1e-5), ("int8", 6e-4)])
def test_forms_compute_the_same(mode, atol):
    model = model_of(many)
    origin = KerasSource(model, "micro")
    with origin.as_in_file(mode):
        found = origin.call([X])
    expected = model.predict(X, verbose=0)
    for one, other in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=atol)
    assert all("call" not in vars(one) for one in model.operations)


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("rank", [1, 2])
def test_the_largest_numbers_of_16_bits(rank, keepdims):
    pool = getattr(layers, f"GlobalMaxPooling{rank}D")(keepdims=keepdims)
    model = model_of(pool, (6,) * rank + (4,))
    origin = KerasSource(model, "micro")
    x = X if rank == 2 else X[:, 0]
    with origin.as_in_file("int16x8"):
        assert "call" in vars(pool)
        (found,) = origin.call([x]).values()
    np.testing.assert_array_equal(found, model.predict(x, verbose=0))


@pytest.mark.parametrize("mode", [None, "int8"])
def test_activations_and_tables_run(mode, tmp_path):
    def make(x):
        y = layers.Embedding(9, 8)(x)
        return layers.Dense(3)(layers.Add()(many(layers.Dense(4)(y))))

    model = model_of(make, (5,), "int32")
    index = np.random.default_rng(0).integers(0, 9, (64, 5)).astype("int32")
    path = tmp_path / "m.tflite"
    file = l0keras.export_tflite(model, path, mode, index, target="micro")
    assert "AddGather" in file.micro.ops
    assert file.max_difference < (0.15 if mode else 1e-5)
    assert (file.micro.max_steps or 0) <= 1
    assert (file.micro.max_difference or 0) < 1e-5
