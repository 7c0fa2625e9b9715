"""Networks from images to text, and from sound to text."""

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry
from trainers.studies.corpus.reasons import NORMALIZED


class CTCLayer(layers.Layer):
    """The loss of the example gallery, added in a layer of its own."""

    def call(self, y_true, y_pred):
        batch = ops.shape(y_true)[0]
        ones = ops.ones((batch,), dtype="int32")
        labels = ops.cast(y_true, "int32") + 1
        loss = ops.ctc_loss(
            labels,
            y_pred,
            ops.shape(y_true)[1] * ones,
            ops.shape(y_pred)[1] * ones,
        )
        self.add_loss(ops.mean(loss))
        return y_pred


@entry("captcha", area="reading", high={"label": 9})
def captcha():
    image = layers.Input((40, 16, 1), name="image")
    labels = layers.Input((4,), name="label", dtype="float32")
    x = layers.Conv2D(
        *(12, 3),
        activation="relu",
        kernel_initializer="he_normal",
        padding="same",
        name="Conv1",
    )(image)
    x = layers.MaxPooling2D((2, 2), name="pool1")(x)
    x = layers.Conv2D(16, 3, activation="relu", padding="same", name="Conv2")(x)
    x = layers.MaxPooling2D((2, 2), name="pool2")(x)
    x = layers.Reshape(target_shape=(10, 4 * 16), name="reshape")(x)
    x = layers.Dense(24, activation="relu", name="dense1")(x)
    x = layers.Dropout(0.2)(x)
    x = layers.Bidirectional(
        layers.LSTM(24, return_sequences=True, dropout=0.25)
    )(x)
    x = layers.Bidirectional(
        layers.LSTM(16, return_sequences=True, dropout=0.25)
    )(x)
    x = layers.Dense(12, activation="softmax", name="dense2")(x)
    output = CTCLayer(name="ctc_loss")(labels, x)
    return keras.Model([image, labels], output, name="ocr_model_v1")


@entry("handwriting", area="reading")
def handwriting():
    inputs = keras.Input((48, 16, 1), name="image")
    x = inputs
    for filters in (12, 24):
        x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Reshape((12, 4 * 24))(x)
    x = layers.Dense(32, activation="relu")(x)
    x = layers.Dropout(0.2)(x)
    x = layers.Bidirectional(layers.LSTM(24, return_sequences=True))(x)
    x = layers.Dense(20, activation="softmax", name="target")(x)
    return keras.Model(inputs, x)


@entry("OCR with GRU", area="reading")
def ocr():
    inputs = keras.Input((16, 40, 1))
    x = inputs
    for filters, pool in ((12, (2, 2)), (16, (2, 1)), (24, (2, 1))):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D(pool)(x)
    x = layers.Permute((2, 1, 3))(x)
    x = layers.TimeDistributed(layers.Flatten())(x)
    x = layers.Bidirectional(
        layers.GRU(24, return_sequences=True), merge_mode="sum"
    )(x)
    x = layers.Bidirectional(
        layers.GRU(24, return_sequences=True), merge_mode="concat"
    )(x)
    return keras.Model(inputs, layers.Dense(15)(x))


@entry("speech recognition, DeepSpeech2", area="reading", sizes=20)
def deep_speech():
    inputs = layers.Input((None, 33), name="input")
    x = layers.Reshape((-1, 33, 1), name="expand_dim")(inputs)
    x = layers.Conv2D(
        *(8, [5, 11], [2, 2]), padding="same", use_bias=False, name="conv_1"
    )(x)
    x = layers.BatchNormalization(name="conv_1_bn")(x)
    x = layers.ReLU(name="conv_1_relu")(x)
    x = layers.Conv2D(
        *(8, [5, 5], [1, 2]), padding="same", use_bias=False, name="conv_2"
    )(x)
    x = layers.BatchNormalization(name="conv_2_bn")(x)
    x = layers.ReLU(name="conv_2_relu")(x)
    x = layers.Reshape((-1, x.shape[-2] * x.shape[-1]))(x)
    for i in range(1, 3):
        recurrent = layers.GRU(
            units=24,
            activation="tanh",
            recurrent_activation="sigmoid",
            return_sequences=True,
            reset_after=True,
            name=f"gru_{i}",
        )
        x = layers.Bidirectional(
            recurrent, name=f"bidirectional_{i}", merge_mode="concat"
        )(x)
        if i < 2:
            x = layers.Dropout(rate=0.5)(x)
    x = layers.Dense(units=48, name="dense_1")(x)
    x = layers.ReLU(name="dense_1_relu")(x)
    x = layers.Dropout(rate=0.5)(x)
    output = layers.Dense(units=20, activation="softmax")(x)
    return keras.Model(inputs, output, name="DeepSpeech_2")


class TokenEmbedding(layers.Layer):
    def __init__(self, vocabulary=20, length=12, width=32):
        super().__init__()
        self.emb = layers.Embedding(vocabulary, width)
        self.pos_emb = layers.Embedding(length, width)

    def call(self, x):
        length = ops.shape(x)[-1]
        x = self.emb(x)
        return x + self.pos_emb(ops.arange(0, length, 1))


class SpeechFeatureEmbedding(layers.Layer):
    def __init__(self, width=32):
        super().__init__()
        self.conv1 = layers.Conv1D(
            width, 11, strides=2, padding="same", activation="relu"
        )
        self.conv2 = layers.Conv1D(
            width, 5, strides=2, padding="same", activation="relu"
        )

    def call(self, x):
        return self.conv2(self.conv1(x))


class TransformerEncoder(layers.Layer):
    def __init__(self, width, heads, hidden, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(heads, width // heads)
        self.ffn = keras.Sequential(
            [layers.Dense(hidden, activation="relu"), layers.Dense(width)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs, training=False):
        y = self.att(inputs, inputs)
        y = self.dropout1(y, training=training)
        x = self.layernorm1(inputs + y)
        y = self.dropout2(self.ffn(x), training=training)
        return self.layernorm2(x + y)


class TransformerDecoder(layers.Layer):
    def __init__(self, width, heads, hidden, rate=0.1):
        super().__init__()
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm3 = layers.LayerNormalization(epsilon=1e-6)
        self.self_att = layers.MultiHeadAttention(heads, width // heads)
        self.enc_att = layers.MultiHeadAttention(heads, width // heads)
        self.self_dropout = layers.Dropout(0.5)
        self.enc_dropout = layers.Dropout(rate)
        self.ffn_dropout = layers.Dropout(rate)
        self.ffn = keras.Sequential(
            [layers.Dense(hidden, activation="relu"), layers.Dense(width)]
        )

    def causal_mask(self, batch, target, source, dtype):
        i = ops.arange(target)[:, None]
        j = ops.arange(source)
        mask = i >= j - source + target
        mask = ops.reshape(ops.cast(mask, dtype), [1, target, source])
        return ops.broadcast_to(mask, (batch, target, source))

    def call(self, source, target):
        batch, length = ops.shape(target)[0], ops.shape(target)[1]
        mask = self.causal_mask(batch, length, length, "bool")
        y = self.self_att(target, target, attention_mask=mask)
        x = self.layernorm1(target + self.self_dropout(y))
        y = self.enc_att(x, source)
        y = self.layernorm2(self.enc_dropout(y) + x)
        z = self.ffn_dropout(self.ffn(y))
        return self.layernorm3(y + z)


class SpeechTransformer(keras.Model):
    def __init__(self, width=32, heads=2, hidden=48, classes=20):
        super().__init__()
        self.enc_input = SpeechFeatureEmbedding(width)
        self.dec_input = TokenEmbedding(classes, 12, width)
        self.encoder = keras.Sequential(
            [self.enc_input]
            + [TransformerEncoder(width, heads, hidden) for _ in range(2)]
        )
        for i in range(1):
            setattr(
                self,
                f"dec_layer_{i}",
                TransformerDecoder(width, heads, hidden),
            )
        self.classifier = layers.Dense(classes)

    def decode(self, enc_out, target):
        y = self.dec_input(target)
        for i in range(1):
            y = getattr(self, f"dec_layer_{i}")(enc_out, y)
        return y

    def call(self, inputs):
        source, target = inputs
        return self.classifier(self.decode(self.encoder(source), target))


def speech_inputs(rng, examples):
    return [
        rng.standard_normal((examples, 24, 16)).astype("float32"),
        rng.integers(0, 20, (examples, 8)).astype("int32"),
    ]


@entry(
    "speech recognition, transformer",
    area="reading",
    inputs=speech_inputs,
    limit=0.6,
    inherent=NORMALIZED,
)
def speech_transformer():
    model = SpeechTransformer()
    model([ops.zeros((1, 24, 16)), ops.zeros((1, 8), "int32")])
    return model


class CaptionEncoder(layers.Layer):
    def __init__(self, width, heads, **kwargs):
        super().__init__(**kwargs)
        self.attention_1 = layers.MultiHeadAttention(heads, width, dropout=0.0)
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.dense_1 = layers.Dense(width, activation="relu")

    def call(self, inputs, training, mask=None):
        inputs = self.layernorm_1(inputs)
        inputs = self.dense_1(inputs)
        y = self.attention_1(
            query=inputs,
            value=inputs,
            key=inputs,
            attention_mask=None,
            training=training,
        )
        return self.layernorm_2(inputs + y)


class CaptionDecoder(layers.Layer):
    def __init__(self, width, hidden, heads, vocabulary, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(vocabulary, width, mask_zero=True)
        self.positions = layers.Embedding(8, width)
        self.attention_1 = layers.MultiHeadAttention(heads, width)
        self.attention_2 = layers.MultiHeadAttention(heads, width)
        self.ffn_1 = layers.Dense(hidden, activation="relu")
        self.ffn_2 = layers.Dense(width)
        self.norm_1 = layers.LayerNormalization()
        self.norm_2 = layers.LayerNormalization()
        self.norm_3 = layers.LayerNormalization()
        self.out = layers.Dense(vocabulary, activation="softmax")
        self.dropout = layers.Dropout(0.3)
        self.supports_masking = True

    def call(self, tokens, encoded, training=None):
        x = self.embedding(tokens) + self.positions(ops.arange(8))
        y = self.attention_1(
            query=x, value=x, key=x, use_causal_mask=True, training=training
        )
        x = self.norm_1(x + y)
        y = self.attention_2(query=x, value=encoded, key=encoded)
        x = self.norm_2(x + y)
        y = self.ffn_2(self.dropout(self.ffn_1(x), training=training))
        return self.out(self.norm_3(x + y))


@entry(
    "image captioning",
    area="reading",
    high=30,
    limit=0.65,
    inherent=NORMALIZED,
)
def captioning():
    image = keras.Input((32, 32, 3), name="image")
    tokens = keras.Input((8,), dtype="int32", name="caption")
    cnn = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(16, 3, 4, "same", activation="relu"),
            layers.Conv2D(24, 3, 2, "same", activation="relu"),
            layers.Reshape((-1, 24)),
        ]
    )
    cnn.trainable = False
    encoded = CaptionEncoder(24, 1)(cnn(image), training=False)
    words = CaptionDecoder(24, 48, 2, 30)(tokens, encoded)
    return keras.Model([image, tokens], words)
