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


def language_model(tied, norm=True, calls=1):
    """Tokens to logits, with one table of embeddings for both."""
    embedding = layers.ReversibleEmbedding(4, 6, tie_weights=tied, name="table")
    inputs = keras.Input((7,), dtype="int32")
    x = embedding(inputs)
    y = layers.Dense(5, name="inner")(x)
    y = layers.Dense(6, name="before")(y)
    if norm:
        y = layers.RMSNormalization(epsilon=0.1)(x + y)
    outputs = [embedding(y, reverse=True) for _ in range(calls)]
    model = keras.Model(inputs, outputs)
    checks.spread(model, rng)
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("calls", [1, 2])
def test_units_of_a_table_go_in_both_directions(tied, calls, tmp_path):
    gated = l0keras.sparsify(language_model(tied, calls=calls))
    (gate,) = [g for g in l0keras.gates_of(gated) if g.log_alpha.shape == (6,)]
    gate.log_alpha.assign([3.0, -8.0, 0.3, -8.0, 3.0, 0.5])
    stripped = checks.check(gated, rng, tmp_path)
    table = stripped.get_layer("table")
    assert table.embeddings.shape == (4, 4)
    assert tied or table.reverse_embeddings.shape == (4, 4)
    assert not checks.barriers(gated)


@pytest.mark.parametrize("tied", [True, False])
def test_what_a_table_lacks_in_one_direction(tied, tmp_path):
    """Units 1 and 2 come as zeros, 3 is not read, 4 has only zeros."""
    model = language_model(tied, norm=False)
    checks.close(model.get_layer("before"), [1, 2])
    shut_rows(model.get_layer("inner"), [2, 3])
    table = model.get_layer("table")
    for weight in table.weights:
        array = checks.to_numpy(weight).copy()
        array[(slice(None), 4) if array.shape == (4, 6) else 4] = 0.0
        weight.assign(array)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("table").embeddings.shape == (4, 4)
    assert stripped.get_layer("before").units == 3
    assert stripped.get_layer("inner").kernel.shape[0] == 3


def test_a_table_of_which_no_unit_is_read():
    table = layers.ReversibleEmbedding(4, 6, name="table")
    inputs = [keras.Input((7,), dtype="int32"), keras.Input((7, 2))]
    x = layers.Concatenate()([table(inputs[0]), inputs[1]])
    x = layers.Dense(6, name="before")(x)
    model = keras.Model(inputs, table(x, reverse=True))
    checks.spread(model, rng)
    shut_rows(model.get_layer("before"), np.arange(6))
    checks.check(model, rng, fixpoint=False)


def test_a_table_that_is_only_used_in_reverse_stays_whole():
    embedding = layers.ReversibleEmbedding(4, 6, name="table")
    embedding.build()
    inputs = keras.Input((3,))
    x = layers.Dense(6, name="before")(inputs)
    model = keras.Model(inputs, embedding(x, reverse=True))
    checks.check(model, rng)
    assert "in reverse" in checks.barriers(model)["table"]


def test_a_mask_of_which_keras_does_not_know():
    inputs = keras.Input((7,), dtype="int32")
    x = layers.ReversibleEmbedding(4, 6, mask_zero=True, name="table")(inputs)
    model = keras.Model(
        inputs,
        [layers.LSTM(3, name="lstm")(x), layers.LSTM(3, name="other")(x)],
    )
    checks.spread(model, rng)
    kernel = checks.to_numpy(model.get_layer("lstm").cell.kernel).copy()
    kernel[[1, 2]] = 0.0
    model.get_layer("lstm").cell.kernel.assign(kernel)
    checks.check(model, rng)
    checks.check(l0keras.sparsify(model), rng)


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
