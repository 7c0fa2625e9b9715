"""Layers with the names, weights and formulas of KerasHub's."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from tests.graph.rules import checks


def named(place):
    """Gives a class the name of one of KerasHub's."""
    module, _, name = place.rpartition(".")

    def rename(kind):
        kind.__module__ = f"keras_hub.src.{module}"
        kind.__name__ = kind.__qualname__ = name
        return keras.saving.register_keras_serializable("test_hub")(kind)

    return rename


@named("models.llama.llama_layernorm.LlamaLayerNorm")
class LlamaNorm(layers.Layer):
    plus = 0.0

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), name="scale")

    def call(self, x):
        squares = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return x * ops.rsqrt(squares + self.epsilon) * (self.scale + self.plus)


@named("models.gemma.rms_normalization.RMSNormalization")
class GemmaNorm(LlamaNorm):
    plus = 1.0


@named("models.qwen3.qwen3_layernorm.Qwen3LayerNorm")
class QwenNorm(LlamaNorm):
    def __init__(self, head_dim=None, epsilon=1e-6, **kwargs):
        super().__init__(epsilon, **kwargs)
        self.head_dim = head_dim

    def build(self, input_shape):
        width = self.head_dim or input_shape[-1]
        self.scale = self.add_weight(shape=(width,), name="scale")

    def get_config(self):
        config = {"head_dim": self.head_dim, "epsilon": self.epsilon}
        return {**super().get_config(), **config}


@named("models.dinov2.dinov2_layers.DINOV2LayerScale")
class DinoScale(layers.Layer):
    def __init__(self, hidden_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim

    def build(self, input_shape):
        self.lambda1 = self.add_weight(shape=(self.hidden_dim,), name="lambda1")

    def call(self, x):
        return x * self.lambda1


@named("models.mit.mit_layers.DropPath")
class DropPath(layers.Layer):
    def call(self, x, training=None):
        return 2.0 * x if training else x


@named("layers.modeling.position_embedding.PositionEmbedding")
class Positions(layers.Layer):
    def __init__(self, sequence_length, **kwargs):
        super().__init__(**kwargs)
        self.sequence_length = sequence_length

    def build(self, input_shape):
        self.position_embeddings = self.add_weight(
            shape=(self.sequence_length, input_shape[-1]), name="embeddings"
        )

    def call(self, x, start_index=0, positions=None):
        rows = ops.convert_to_tensor(self.position_embeddings)
        if positions is None:
            rows = rows[start_index : start_index + x.shape[-2]]
        else:
            rows = ops.take(rows, positions, axis=0)
        return ops.broadcast_to(rows, ops.shape(x))


@named("layers.modeling.cached_multi_head_attention.CachedMultiHeadAttention")
class CachedAttention(layers.MultiHeadAttention):
    def call(
        self,
        query,
        value,
        key=None,
        attention_mask=None,
        cache=None,
        cache_update_index=None,
        training=None,
    ):
        key = value if key is None else key
        if cache is not None:
            value = cache
        query, key = self._query_dense(query), self._key_dense(key)
        x, _ = self._compute_attention(
            query, key, self._value_dense(value), attention_mask
        )
        return self._output_dense(x)


@pytest.mark.parametrize(
    "layer",
    [
        LlamaNorm(0.5),
        GemmaNorm(0.5),
        QwenNorm(epsilon=0.5),
        QwenNorm(head_dim=6, epsilon=0.5),
        DinoScale(6),
        DropPath(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_without_the_channels_that_are_zero(layer, tmp_path):
    model = checks.around(layer)
    left = checks.closed(model, np.random.default_rng(0), tmp_path=tmp_path)
    assert left == 4
    assert not checks.barriers(model)


def test_a_weight_of_zero_does_not_close_what_adds_one():
    rng = np.random.default_rng(0)
    model = checks.around(GemmaNorm())
    checks.randomize(model, rng, closed=0.0)
    (scale,) = model.layers[2].weights
    scale.assign([0.0, -1.0, 0.0, 2.0, 0.0, 1.0])
    constants = checks.constants_of(model).nodes[1].output.constants
    np.testing.assert_array_equal(constants == 0, np.arange(6) == 1)
    checks.check(model, rng)


@pytest.mark.parametrize("given", [False, True])
def test_a_position_embedding_has_the_channels_of_its_input(given, tmp_path):
    """Channel 1 is read by nobody, channel 3 is the same at all positions."""
    rng = np.random.default_rng(0)
    ids = keras.Input((5,), dtype="int32")
    positions = keras.Input((5,), dtype="int32")
    x = layers.Embedding(4, 6, name="tokens")(ids)
    layer = Positions(7, name="positions")
    if given:
        x = x + layer(x, positions=positions)
    else:
        x = x + layer(x) + layer(x, start_index=2)
    x = layers.Dense(3, name="after")(x)
    model = keras.Model([ids, positions], x)
    checks.spread(model, rng)
    for name in ("tokens", "positions"):
        (rows,) = model.get_layer(name).weights
        array = checks.to_numpy(rows).copy()
        array[:, 3] = array[0, 3]
        rows.assign(array)
    kernel = checks.to_numpy(model.get_layer("after").kernel).copy()
    kernel[1] = 0.0
    model.get_layer("after").kernel.assign(kernel)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("positions").weights[0].shape == (7, 4)
    assert stripped.get_layer("tokens").embeddings.shape == (4, 4)


def test_heads_of_cached_attention_are_gated_and_cut(tmp_path):
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 4))
    mask = keras.Input((5, 5), dtype="bool")
    x = layers.Dense(6)(inputs)
    layer = CachedAttention(4, 3, name="attention")
    x = layer(x, x, None, mask)
    model = keras.Model([inputs, mask], layers.Dense(3)(x))
    checks.spread(model, rng)
    gated = l0keras.sparsify(model)
    gate = gated.get_layer("attention").gate
    gate.log_alpha.assign([3.0, -8.0, 0.3, -8.0])
    stripped = checks.check(gated, rng, tmp_path)
    assert stripped.get_layer("attention").num_heads == 2
    kernel = checks.weights_of(layer)["attention_output/kernel"]
    kernel[[0, 1, 3]] = 0.0
    checks.assign(
        layer, {**checks.weights_of(layer), "attention_output/kernel": kernel}
    )
    stripped = checks.check(model, rng)
    assert stripped.get_layer("attention").num_heads == 1
    assert type(stripped.get_layer("attention")) is CachedAttention


class Decoder(layers.Layer):
    """As KerasHub's: a mask for each example, and arguments of no use."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = CachedAttention(2, 4, name="attention")

    def build(self, input_shape):
        self.attention.build(input_shape, input_shape)

    def call(self, x):
        batch, length, _ = ops.shape(x)
        mask = ops.tril(ops.ones((length, length)))
        mask = ops.broadcast_to(mask, (batch, length, length))
        # The layer that it derives from knows no cache.
        return self.attention(x, x, attention_mask=mask, cache=None)


def test_a_decoder_is_opened():
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 4))
    x = layers.Dense(6)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(Decoder(name="decoder")(x)))
    checks.spread(model, rng)
    assert not checks.barriers(model)
    checks.check(model, rng)
