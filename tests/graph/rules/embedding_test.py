import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from tests.graph.rules import checks

rng = np.random.default_rng(0)


def model_of(*rest, length=7, **kwargs):
    model = keras.Sequential(
        [
            keras.Input((length,), dtype="int32"),
            layers.Embedding(4, 6, name="embedding", **kwargs),
            *rest,
        ]
    )
    checks.spread(model, rng)
    return model


def set_columns(model, **columns):
    layer = model.get_layer("embedding")
    rows = keras.ops.convert_to_numpy(layer.embeddings).copy()
    for name, values in columns.items():
        rows[:, int(name[1:])] = values
    layer.set_weights([rows])


def shut_rows(dense, rows):
    kernel = keras.ops.convert_to_numpy(dense.kernel).copy()
    kernel[rows] = 0.0
    dense.kernel.assign(kernel)


@pytest.mark.parametrize("length", [7, None])
def test_columns_go_that_are_constant_or_not_read(length, tmp_path):
    model = model_of(layers.Dense(3, name="dense"), length=length)
    set_columns(model, c1=0.0, c2=1.5)
    shut_rows(model.get_layer("dense"), [4])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("embedding").embeddings.shape == (4, 3)
    assert stripped.get_layer("dense").kernel.shape == (3, 3)
    assert not checks.reasons(model)


def test_constants():
    model = model_of()
    set_columns(model, c1=0.0, c2=1.5, c3=[0.0, 0.0, 0.0, 1.0])
    constants = checks.constants_of(model).nodes[0].output.constants
    nan = np.nan
    np.testing.assert_array_equal(constants, [nan, 0.0, 1.5, nan, nan, nan])


def test_indices_are_not_channels():
    """The embedding reads all positions, whatever columns are needed."""
    model = model_of(layers.Flatten(), layers.Dense(3, name="dense"))
    kernel = np.zeros((7 * 6, 3), "float32")
    kernel[6 + 2] = 1.0
    model.get_layer("dense").kernel.assign(kernel)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("embedding").embeddings.shape == (4, 1)
    assert stripped.input_shape == (None, 7)


def test_masks_pass():
    model = model_of(
        layers.Dropout(0.5), layers.LSTM(3, name="lstm"), mask_zero=True
    )
    set_columns(model, c0=0.0)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("embedding").mask_zero
    assert stripped.get_layer("embedding").embeddings.shape == (4, 5)
    assert stripped.get_layer("lstm").cell.kernel.shape == (5, 12)


def test_scale_of_a_gate_is_folded():
    model = model_of(l0keras.HardConcreteGate(axis=-1), layers.LSTM(3))
    model.layers[1].log_alpha.assign([1.0, -5.0, 0.5, 0.1, 3.0, -5.0])
    stripped = checks.check(model, rng)
    assert len(stripped.layers) == 3
    assert stripped.get_layer("embedding").embeddings.shape == (4, 4)


@pytest.mark.parametrize("tied", [True, False])
def test_a_reversible_embedding(tied, tmp_path):
    embedding = layers.ReversibleEmbedding(4, 6, tie_weights=tied, name="e")
    inputs = keras.Input((7,), dtype="int32")
    x = embedding(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="dense")(x))
    checks.spread(model, rng)
    shut_rows(model.get_layer("dense"), [0, 4])
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("e").embeddings.shape == (4, 4)
    x = embedding(layers.Dense(6, name="before")(x), reverse=True)
    model = keras.Model(inputs, x)
    checks.check(model, rng, tmp_path)
    assert "called in reverse" in checks.reasons(model)["e"]


def test_an_embedding_that_another_layer_holds_stays_whole():
    embedding = layers.Embedding(4, 6, name="embedding")
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Dense(3, name="dense")(embedding(inputs))
    model = keras.Model(inputs, Tied(embedding, name="tied")(x))
    checks.spread(model, rng)
    shut_rows(model.get_layer("dense"), [1, 2])
    checks.check(model, rng)
    assert "in common with 'tied'" in checks.barriers(model)["embedding"]


class Tied(layers.Layer):
    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.scale = self.add_weight(shape=())

    def call(self, x):
        kernel = ops.convert_to_tensor(self.embedding.embeddings)
        return ops.matmul(x, ops.transpose(kernel)[:3]) * self.scale
