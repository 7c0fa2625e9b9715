"""Networks on films and volumes."""

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry
from trainers.studies.corpus.reasons import NORMALIZED


@entry("CT scans, Conv3D", area="video")
def scans():
    inputs = keras.Input((16, 16, 8, 1))
    x = inputs
    for filters in (12, 24):
        x = layers.Conv3D(
            filters=filters, kernel_size=3, padding="same", activation="relu"
        )(x)
        x = layers.MaxPool3D(pool_size=2)(x)
        x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling3D()(x)
    x = layers.Dense(units=32, activation="relu")(x)
    x = layers.Dropout(0.3)(x)
    outputs = layers.Dense(units=1, activation="sigmoid")(x)
    return keras.Model(inputs, outputs, name="3dcnn")


class Conv2Plus1D(keras.layers.Layer):
    def __init__(self, filters, kernel_size, padding):
        super().__init__()
        self.seq = keras.Sequential(
            [
                layers.Conv3D(
                    filters=filters,
                    kernel_size=(1, kernel_size[1], kernel_size[2]),
                    padding=padding,
                ),
                layers.Conv3D(
                    filters=filters,
                    kernel_size=(kernel_size[0], 1, 1),
                    padding=padding,
                ),
            ]
        )

    def call(self, x):
        return self.seq(x)


class ResidualMain(keras.layers.Layer):
    def __init__(self, filters, kernel_size):
        super().__init__()
        self.seq = keras.Sequential(
            [
                Conv2Plus1D(filters, kernel_size, "same"),
                layers.LayerNormalization(),
                layers.ReLU(),
                Conv2Plus1D(filters, kernel_size, "same"),
                layers.LayerNormalization(),
            ]
        )

    def call(self, x):
        return self.seq(x)


class Project(keras.layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.seq = keras.Sequential(
            [layers.Dense(units), layers.LayerNormalization()]
        )

    def call(self, x):
        return self.seq(x)


def add_residual_block(x, filters, kernel_size):
    y = ResidualMain(filters, kernel_size)(x)
    if y.shape[-1] != x.shape[-1]:
        x = Project(y.shape[-1])(x)
    return layers.add([x, y])


class ResizeVideo(keras.layers.Layer):
    def __init__(self, height, width):
        super().__init__()
        self.height = height
        self.width = width
        self.resizing_layer = layers.Resizing(height, width)

    def call(self, video):
        batch, frames, h, w, c = ops.shape(video)
        images = ops.reshape(
            video, (-1, video.shape[2], video.shape[3], video.shape[4])
        )
        images = self.resizing_layer(images)
        return ops.reshape(
            images,
            (-1, video.shape[1], self.height, self.width, video.shape[4]),
        )


@entry(
    "video, (2+1)D residual network",
    area="video",
    limit=0.55,
    inherent=NORMALIZED,
)
def video_2plus1d():
    inputs = layers.Input(shape=(4, 16, 16, 3))
    x = Conv2Plus1D(filters=12, kernel_size=(3, 5, 5), padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = ResizeVideo(8, 8)(x)
    x = add_residual_block(x, 12, (3, 3, 3))
    x = ResizeVideo(4, 4)(x)
    x = add_residual_block(x, 24, (3, 3, 3))
    x = layers.GlobalAveragePooling3D()(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(6)(x))


@entry("next frame, ConvLSTM", area="video", sizes=4)
def next_frame():
    inp = layers.Input(shape=(None, 12, 12, 1))
    x = layers.ConvLSTM2D(
        filters=12,
        kernel_size=(5, 5),
        padding="same",
        return_sequences=True,
        activation="relu",
    )(inp)
    x = layers.BatchNormalization()(x)
    x = layers.ConvLSTM2D(
        filters=12,
        kernel_size=(3, 3),
        padding="same",
        return_sequences=True,
        activation="relu",
    )(x)
    x = layers.Conv3D(
        filters=1, kernel_size=(3, 3, 3), activation="sigmoid", padding="same"
    )(x)
    return keras.models.Model(inp, x)


class FramePositions(layers.Layer):
    def __init__(self, sequence_length, output_dim, **kwargs):
        super().__init__(**kwargs)
        self.position_embeddings = layers.Embedding(sequence_length, output_dim)
        self.sequence_length = sequence_length
        self.output_dim = output_dim

    def build(self, input_shape):
        self.position_embeddings.build(input_shape)

    def call(self, inputs):
        inputs = ops.cast(inputs, self.compute_dtype)
        length = ops.shape(inputs)[1]
        positions = ops.arange(start=0, stop=length, step=1)
        return inputs + self.position_embeddings(positions)


class FrameEncoder(layers.Layer):
    def __init__(self, embed_dim, dense_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(
            num_heads=num_heads, key_dim=embed_dim, dropout=0.3
        )
        self.dense_proj = keras.Sequential(
            [
                layers.Dense(dense_dim, activation=keras.activations.gelu),
                layers.Dense(embed_dim),
            ]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()

    def call(self, inputs, mask=None):
        y = self.attention(inputs, inputs, attention_mask=mask)
        x = self.layernorm_1(inputs + y)
        return self.layernorm_2(x + self.dense_proj(x))


@entry("video, transformer", area="video", limit=0.9, inherent=NORMALIZED)
def video_transformer():
    inputs = keras.Input((8, 24))
    x = FramePositions(8, 24, name="frame_position_embedding")(inputs)
    x = FrameEncoder(24, 16, 1, name="transformer_layer")(x)
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(5, activation="softmax")(x)
    return keras.Model(inputs, outputs)


class TubeletEmbedding(layers.Layer):
    def __init__(self, embed_dim, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.projection = layers.Conv3D(
            embed_dim, patch_size, strides=patch_size, padding="VALID"
        )
        self.flatten = layers.Reshape(target_shape=(-1, embed_dim))

    def call(self, videos):
        return self.flatten(self.projection(videos))


class PositionalEncoder(layers.Layer):
    def __init__(self, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim

    def build(self, input_shape):
        _, tokens, _ = input_shape
        self.position_embedding = layers.Embedding(tokens, self.embed_dim)
        self.positions = ops.arange(0, tokens, 1)

    def call(self, encoded_tokens):
        return encoded_tokens + self.position_embedding(self.positions)


@entry("video, ViViT", area="video", limit=0.7, inherent=NORMALIZED)
def vivit():
    inputs = layers.Input((8, 16, 16, 1))
    patches = TubeletEmbedding(32, (4, 8, 8))(inputs)
    x = PositionalEncoder(32)(patches)
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(x)
        attention = layers.MultiHeadAttention(
            num_heads=4, key_dim=32 // 4, dropout=0.1
        )(x1, x1)
        x2 = layers.Add()([attention, x])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        x3 = keras.Sequential(
            [
                layers.Dense(units=64, activation=keras.ops.gelu),
                layers.Dense(units=32, activation=keras.ops.gelu),
            ]
        )(x3)
        x = layers.Add()([x3, x2])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.GlobalAvgPool1D()(x)
    outputs = layers.Dense(units=5, activation="softmax")(x)
    return keras.Model(inputs=inputs, outputs=outputs)


@entry("video, CNN and GRU with a mask", area="video")
def video_gru():
    frames = keras.Input((8, 24))
    mask = keras.Input((8,), dtype="bool")
    x = layers.GRU(16, return_sequences=True)(frames, mask=mask)
    x = layers.GRU(8)(x)
    x = layers.Dropout(0.4)(x)
    x = layers.Dense(8, activation="relu")(x)
    return keras.Model([frames, mask], layers.Dense(5, activation="softmax")(x))
