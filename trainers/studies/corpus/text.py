"""Networks on text."""

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry
from trainers.studies.corpus.reasons import NORMALIZED

WORDS = 60


@entry("text, CNN", area="text", high=WORDS, sizes=24)
def text_cnn():
    inputs = keras.Input(shape=(None,), dtype="int64")
    x = layers.Embedding(WORDS, 32)(inputs)
    x = layers.Dropout(0.5)(x)
    x = layers.Conv1D(32, 7, padding="valid", activation="relu", strides=3)(x)
    x = layers.Conv1D(32, 3, padding="valid", activation="relu")(x)
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dense(32, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    predictions = layers.Dense(1, activation="sigmoid", name="predictions")(x)
    return keras.Model(inputs, predictions)


@entry("text, several kernel sizes", area="text", high={"tokens": WORDS})
def text_branches():
    inputs = keras.Input((16,), name="tokens")
    x = layers.Embedding(WORDS, 24)(inputs)
    x = layers.SpatialDropout1D(0.2)(x)
    branches = []
    for size in (2, 3, 4):
        y = layers.Conv1D(16, size, activation="relu")(x)
        branches.append(layers.GlobalMaxPool1D()(y))
    x = layers.concatenate(branches)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@entry("text, bidirectional LSTM", area="text", high=WORDS, sizes=12)
def text_lstm():
    inputs = keras.Input(shape=(None,), dtype="int32")
    x = layers.Embedding(WORDS, 32)(inputs)
    x = layers.Bidirectional(layers.LSTM(24, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(24))(x)
    outputs = layers.Dense(1, activation="sigmoid")(x)
    return keras.Model(inputs, outputs)


@entry("text, masked LSTM", area="text", high=WORDS)
def masked_lstm():
    return keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            layers.Embedding(WORDS, 24, mask_zero=True),
            layers.LSTM(24, return_sequences=True),
            layers.GRU(16),
            layers.Dense(16, activation="tanh"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


class TransformerBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        y = self.dropout1(self.att(inputs, inputs))
        x = self.layernorm1(inputs + y)
        y = self.dropout2(self.ffn(x))
        return self.layernorm2(x + y)


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = layers.Embedding(vocab_size, embed_dim)
        self.pos_emb = layers.Embedding(maxlen, embed_dim)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        positions = ops.arange(start=0, stop=maxlen, step=1)
        return self.token_emb(x) + self.pos_emb(positions)


@entry(
    "text, transformer",
    area="text",
    high={"tokens": WORDS},
    limit=0.65,
    inherent=NORMALIZED,
)
def text_transformer():
    inputs = layers.Input(shape=(16,), name="tokens")
    x = TokenAndPositionEmbedding(16, WORDS, 32)(inputs)
    x = TransformerBlock(32, 2, 32)(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(20, activation="relu")(x)
    x = layers.Dropout(0.1)(x)
    outputs = layers.Dense(2, activation="softmax")(x)
    return keras.Model(inputs=inputs, outputs=outputs)


class ExpertLayer(layers.Layer):
    """Switch: soft choice among feed-forward networks."""

    def __init__(self, experts, width, hidden):
        super().__init__()
        self.experts = [
            keras.Sequential(
                [layers.Dense(hidden, "relu"), layers.Dense(width)]
            )
            for _ in range(experts)
        ]
        self.router = layers.Dense(experts, activation="softmax")

    def call(self, x):
        routes = self.router(x)
        outputs = [expert(x) for expert in self.experts]
        stacked = ops.stack(outputs, axis=-1)
        return ops.sum(stacked * ops.expand_dims(routes, -2), axis=-1)


@entry(
    "text, switch transformer",
    area="text",
    high=WORDS,
    limit=0.65,
    inherent=NORMALIZED,
)
def switch_transformer():
    inputs = layers.Input((12,), dtype="int32")
    x = TokenAndPositionEmbedding(12, WORDS, 24)(inputs)
    y = layers.MultiHeadAttention(2, 12)(x, x)
    x = layers.LayerNormalization()(x + y)
    x = layers.LayerNormalization()(x + ExpertLayer(3, 24, 32)(x))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


@entry(
    "sequence to sequence, characters",
    area="text",
    sizes=9,
    limit=0.5,
    inherent=(
        "hidden and cell states have gates of their own, and a unit "
        "goes only with both"
    ),
)
def seq2seq_characters():
    encoder_inputs = keras.Input(shape=(None, 14))
    encoder = keras.layers.LSTM(32, return_state=True)
    _, state_h, state_c = encoder(encoder_inputs)
    decoder_inputs = keras.Input(shape=(None, 18))
    decoder_lstm = keras.layers.LSTM(
        32, return_sequences=True, return_state=True
    )
    decoder_outputs, _, _ = decoder_lstm(
        decoder_inputs, initial_state=[state_h, state_c]
    )
    decoder_dense = keras.layers.Dense(18, activation="softmax")
    decoder_outputs = decoder_dense(decoder_outputs)
    return keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)


@entry("sequence to sequence, words", area="text", high=40, sizes=8)
def seq2seq_words():
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    x = layers.Embedding(40, 24, name="source_words")(source)
    states = layers.LSTM(24, return_state=True)(x)[1:]
    y = layers.Embedding(40, 24, name="target_words")(target)
    y = layers.LSTM(24, return_sequences=True)(y, initial_state=states)
    y = layers.Dense(32, activation="relu")(y)
    y = layers.Dense(40, activation="softmax")(y)
    return keras.Model({"source": source, "target": target}, y)


@entry(
    "sequence to sequence, attention",
    area="text",
    high=40,
    sizes=8,
    known="units that both attention and a decoder read have no gates",
)
def seq2seq_attention():
    source = keras.Input((None,), dtype="int32")
    target = keras.Input((None,), dtype="int32")
    encoded = layers.Embedding(40, 24)(source)
    encoded, state = layers.GRU(24, return_sequences=True, return_state=True)(
        encoded
    )
    y = layers.Embedding(40, 24)(target)
    y = layers.GRU(24, return_sequences=True)(y, initial_state=state)
    context = layers.AdditiveAttention()([y, encoded])
    y = layers.Concatenate()([y, context])
    y = layers.Dense(24, activation="tanh")(y)
    return keras.Model([source, target], layers.Dense(40)(y))


@entry("adding numbers", area="text")
def addition():
    model = keras.Sequential()
    model.add(layers.Input((7, 12)))
    model.add(layers.LSTM(32))
    model.add(layers.RepeatVector(4))
    for _ in range(1):
        model.add(layers.LSTM(32, return_sequences=True))
    model.add(layers.Dense(12, activation="softmax"))
    return model


class PositionalEmbedding(layers.Layer):
    def __init__(self, sequence_length, vocab_size, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.token_embeddings = layers.Embedding(vocab_size, embed_dim)
        self.position_embeddings = layers.Embedding(sequence_length, embed_dim)
        self.sequence_length = sequence_length
        self.vocab_size = vocab_size
        self.embed_dim = embed_dim

    def call(self, inputs):
        length = ops.shape(inputs)[-1]
        positions = ops.arange(0, length, 1)
        x = self.token_embeddings(inputs)
        return x + self.position_embeddings(positions)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0)


class Encoder(layers.Layer):
    def __init__(self, embed_dim, dense_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(num_heads, embed_dim)
        self.dense_proj = keras.Sequential(
            [
                layers.Dense(dense_dim, activation="relu"),
                layers.Dense(embed_dim),
            ]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        padding = None if mask is None else mask[:, None, :]
        y = self.attention(
            query=inputs, value=inputs, key=inputs, attention_mask=padding
        )
        x = self.layernorm_1(inputs + y)
        return self.layernorm_2(x + self.dense_proj(x))


class Decoder(layers.Layer):
    def __init__(self, embed_dim, latent_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.attention_1 = layers.MultiHeadAttention(num_heads, embed_dim)
        self.attention_2 = layers.MultiHeadAttention(num_heads, embed_dim)
        self.dense_proj = keras.Sequential(
            [
                layers.Dense(latent_dim, activation="relu"),
                layers.Dense(embed_dim),
            ]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.layernorm_3 = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        inputs, encoded = inputs
        inputs_mask, encoded_mask = mask or (None, None)
        length = ops.shape(inputs)[1]
        causal = ops.arange(length)[:, None] >= ops.arange(length)
        y = self.attention_1(
            query=inputs,
            value=inputs,
            key=inputs,
            attention_mask=causal[None],
            query_mask=inputs_mask,
        )
        x = self.layernorm_1(inputs + y)
        y = self.attention_2(
            query=x,
            value=encoded,
            key=encoded,
            query_mask=inputs_mask,
            key_mask=encoded_mask,
        )
        x = self.layernorm_2(x + y)
        return self.layernorm_3(x + self.dense_proj(x))


@entry(
    "translation, transformer",
    area="text",
    high=40,
    sizes=8,
    known="Keras takes masks off what attention reads, so that blocks which "
    "hand them on stay whole",
)
def translation():
    encoder_inputs = keras.Input((None,), dtype="int64", name="encoder_inputs")
    x = PositionalEmbedding(8, 40, 24)(encoder_inputs)
    encoder_outputs = Encoder(24, 48, 2)(x)
    decoder_inputs = keras.Input((None,), dtype="int64", name="decoder_inputs")
    x = PositionalEmbedding(8, 40, 24)(decoder_inputs)
    x = Decoder(24, 48, 2)([x, encoder_outputs])
    x = layers.Dropout(0.5)(x)
    decoder_outputs = layers.Dense(40, activation="softmax")(x)
    return keras.Model(
        {"encoder_inputs": encoder_inputs, "decoder_inputs": decoder_inputs},
        decoder_outputs,
        name="transformer",
    )


class CausalBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads, embed_dim // num_heads)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="gelu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout = layers.Dropout(rate)

    def call(self, inputs):
        shape = ops.shape(inputs)
        batch, length = shape[0], shape[1]
        i = ops.arange(length)[:, None]
        j = ops.arange(length)
        mask = ops.cast(i >= j, "bool")
        mask = ops.broadcast_to(mask[None], (batch, length, length))
        y = self.att(inputs, inputs, attention_mask=mask)
        x = self.layernorm1(inputs + self.dropout(y))
        return self.layernorm2(x + self.dropout(self.ffn(x)))


@entry("small GPT", area="text", high=WORDS, limit=0.65, inherent=NORMALIZED)
def gpt():
    inputs = layers.Input(shape=(12,), dtype="int32")
    x = TokenAndPositionEmbedding(12, WORDS, 32)(inputs)
    x = CausalBlock(32, 2, 64)(x)
    x = CausalBlock(32, 2, 64)(x)
    outputs = layers.Dense(WORDS)(x)
    return keras.Model(inputs=inputs, outputs=[outputs, x])


@entry(
    "BERT with a tied output",
    area="text",
    high=WORDS,
    limit=0.6,
    inherent=NORMALIZED,
)
def bert_tied():
    inputs = layers.Input((12,), dtype="int32")
    embedding = layers.Embedding(WORDS, 32, name="word_embedding")
    positions = layers.Embedding(12, 32, name="position_embedding")
    x = embedding(inputs) + positions(ops.arange(12))
    for i in range(2):
        y = layers.MultiHeadAttention(2, 16, name=f"encoder_{i}_attention")(
            x, x, x
        )
        y = layers.Dropout(0.1)(y)
        x = layers.LayerNormalization(epsilon=1e-6)(x + y)
        y = layers.Dense(64, activation="gelu")(x)
        y = layers.Dense(32)(y)
        x = layers.LayerNormalization(epsilon=1e-6)(x + y)
    logits = TiedOutput(embedding)(x)
    return keras.Model(inputs, logits, name="masked_bert")


class TiedOutput(layers.Layer):
    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, input_shape):
        self.bias = self.add_weight(
            shape=(self.embedding.input_dim,), initializer="zeros"
        )

    def call(self, x):
        table = ops.transpose(self.embedding.embeddings)
        return ops.matmul(x, table) + self.bias


@entry(
    "BERT with a reversible embedding",
    area="text",
    high=WORDS,
    limit=0.65,
    inherent=NORMALIZED,
)
def bert_reversible():
    inputs = layers.Input((12,), dtype="int32")
    words = layers.ReversibleEmbedding(WORDS, 32)
    x = words(inputs)
    x = layers.LayerNormalization()(x)
    y = layers.MultiHeadAttention(4, 8)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    y = layers.Dense(64, activation=lambda v: ops.gelu(v, approximate=True))(x)
    x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(32)(y)]))
    return keras.Model(inputs, words(x, reverse=True))


class CRFLike(layers.Layer):
    """Scores of tags with learned transitions, greedy along the time."""

    def build(self, input_shape):
        self.transitions = self.add_weight(
            shape=(input_shape[-1], input_shape[-1]), initializer="uniform"
        )

    def call(self, x):
        previous = ops.softmax(x[:, :-1], axis=-1)
        moved = ops.matmul(previous, self.transitions)
        return x + ops.pad(moved, [[0, 0], [1, 0], [0, 0]])


@entry("named entities", area="text", high=WORDS)
def named_entities():
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(WORDS, 24)(inputs)
    x = layers.Dropout(0.1)(x)
    x = layers.Bidirectional(layers.LSTM(16, return_sequences=True))(x)
    x = layers.Dense(24, activation="relu")(x)
    x = layers.Dense(7)(x)
    return keras.Model(inputs, CRFLike()(x))


@entry(
    "text, from strings",
    area="text",
    inputs=lambda rng, examples: words(rng, examples),
)
def from_strings():
    lookup = layers.TextVectorization(max_tokens=24, output_sequence_length=6)
    lookup.set_vocabulary(VOCABULARY)
    return keras.Sequential(
        [
            keras.Input((1,), dtype="string"),
            lookup,
            layers.Embedding(24, 16),
            layers.Flatten(),
            layers.Dense(24, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


VOCABULARY = (
    "the a of to cat dog sun rain runs sleeps red blue fast slow and or not"
).split()


def words(rng, examples):
    import tensorflow as tf

    lines = [[" ".join(rng.choice(VOCABULARY, 6))] for _ in range(examples)]
    return tf.constant(lines)


@entry("Siamese text", area="text", high=WORDS)
def siamese_text():
    tower = keras.Sequential(
        [
            keras.Input((10,), dtype="int32"),
            layers.Embedding(WORDS, 24),
            layers.GlobalAveragePooling1D(),
            layers.Dense(32, activation="relu"),
            layers.Dense(16),
            layers.UnitNormalization(),
        ],
        name="tower",
    )
    first = keras.Input((10,), dtype="int32")
    second = keras.Input((10,), dtype="int32")
    similarity = layers.Dot(axes=1, normalize=False)(
        [tower(first), tower(second)]
    )
    return keras.Model([first, second], similarity)
