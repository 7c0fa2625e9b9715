"""Networks that cut images into patches."""

import keras
import numpy as np
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry
from trainers.studies.corpus.reasons import NORMALIZED

CLASSES = 10


class Patches(layers.Layer):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def call(self, images):
        shape = ops.shape(images)
        rows, columns = shape[1] // self.size, shape[2] // self.size
        patches = ops.image.extract_patches(images, self.size)
        return ops.reshape(
            patches,
            (shape[0], rows * columns, self.size * self.size * shape[3]),
        )


class PatchEncoder(layers.Layer):
    def __init__(self, count, width):
        super().__init__()
        self.count = count
        self.projection = layers.Dense(width)
        self.positions = layers.Embedding(count, width)

    def call(self, patches):
        positions = ops.expand_dims(ops.arange(self.count), axis=0)
        return self.projection(patches) + self.positions(positions)


def feed_forward(x, units, rate):
    for number in units:
        x = layers.Dense(number, activation=keras.activations.gelu)(x)
        x = layers.Dropout(rate)(x)
    return x


@entry("vision transformer", area="images", limit=0.6, inherent=NORMALIZED)
def vision_transformer():
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(2.0, offset=-1.0)(inputs)
    x = PatchEncoder(16, 32)(Patches(8)(x))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.MultiHeadAttention(4, 8, dropout=0.1)(y, y)
        x = layers.Add()([y, x])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = feed_forward(y, [64, 32], 0.1)
        x = layers.Add()([y, x])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    x = feed_forward(x, [64, 32], 0.5)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


class ClassToken(layers.Layer):
    def build(self, input_shape):
        self.token = self.add_weight(
            shape=(1, 1, input_shape[-1]), initializer="random_normal"
        )

    def call(self, x):
        token = ops.repeat(self.token, ops.shape(x)[0], axis=0)
        return ops.concatenate([token, x], axis=1)


class EncoderBlock(layers.Layer):
    def __init__(self, heads, width, hidden, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.norm1 = layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.norm2 = layers.LayerNormalization()
        self.mlp = keras.Sequential(
            [
                layers.Dense(hidden, activation="gelu"),
                layers.Dropout(rate),
                layers.Dense(width),
            ]
        )
        self.drop = layers.Dropout(rate)

    def call(self, x, training=None):
        y = self.norm1(x)
        y = self.attention(y, y, training=training)
        x = x + self.drop(y, training=training)
        return x + self.mlp(self.norm2(x), training=training)


@entry(
    "vision transformer with a class token",
    area="images",
    limit=0.65,
    inherent=NORMALIZED,
)
def class_token_transformer():
    inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(32, 6, strides=6, name="stem")(inputs)
    x = layers.Reshape((-1, 32))(x)
    x = ClassToken()(x)
    for index in range(2):
        x = EncoderBlock(2, 32, 64, name=f"encoder_{index}")(x)
    x = layers.LayerNormalization()(x)[:, 0]
    return keras.Model(inputs, layers.Dense(CLASSES, name="head")(x))


class MixerLayer(layers.Layer):
    def __init__(self, tokens, width, hidden, rate, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.token_mlp = keras.Sequential(
            [
                layers.Dense(tokens, activation="gelu"),
                layers.Dense(tokens),
                layers.Dropout(rate),
            ]
        )
        self.channel_mlp = keras.Sequential(
            [
                layers.Dense(hidden, activation="gelu"),
                layers.Dense(width),
                layers.Dropout(rate),
            ]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        return super().build(input_shape)

    def call(self, inputs):
        x = self.normalize(inputs)
        channels = ops.transpose(x, axes=(0, 2, 1))
        mixed = self.token_mlp(channels)
        x = inputs + ops.transpose(mixed, axes=(0, 2, 1))
        return x + self.channel_mlp(self.normalize(x))


class FourierLayer(layers.Layer):
    def __init__(self, width, rate):
        super().__init__()
        self.ffn = keras.Sequential(
            [
                layers.Dense(2 * width, activation="gelu"),
                layers.Dropout(rate),
                layers.Dense(width),
            ]
        )
        self.norm1 = layers.LayerNormalization(epsilon=1e-6)
        self.norm2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        real, _ = ops.fft2((inputs, ops.zeros_like(inputs)))
        x = self.norm1(inputs + real)
        return self.norm2(x + self.ffn(x))


class GatingLayer(layers.Layer):
    def __init__(self, tokens, width, rate):
        super().__init__()
        self.projection1 = keras.Sequential(
            [layers.Dense(2 * width, activation="gelu"), layers.Dropout(rate)]
        )
        self.projection2 = layers.Dense(width)
        self.spatial = layers.Dense(tokens, bias_initializer="ones")
        self.norm1 = layers.LayerNormalization(epsilon=1e-6)
        self.norm2 = layers.LayerNormalization(epsilon=1e-6)

    def spatial_gating_unit(self, x):
        u, v = ops.split(x, 2, axis=2)
        v = ops.transpose(self.norm2(v), (0, 2, 1))
        v = ops.transpose(self.spatial(v), (0, 2, 1))
        return u * v

    def call(self, inputs):
        x = self.projection1(self.norm1(inputs))
        return inputs + self.projection2(self.spatial_gating_unit(x))


def patch_classifier(blocks, tokens=16, width=32):
    """A classifier around a stack of blocks, as three of them have it."""
    inputs = keras.Input((32, 32, 3))
    x = Patches(8)(inputs)
    x = layers.Dense(width)(x)
    positions = ops.arange(tokens)
    x = x + layers.Embedding(tokens, width)(positions)
    x = blocks(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))


@entry("MLP mixer", area="images", limit=0.7, inherent=NORMALIZED)
def mlp_mixer():
    return patch_classifier(
        keras.Sequential([MixerLayer(16, 32, 64, 0.2) for _ in range(3)])
    )


@entry("FNet", area="images", limit=0.7, inherent=NORMALIZED)
def fnet():
    return patch_classifier(
        keras.Sequential([FourierLayer(32, 0.2) for _ in range(3)])
    )


@entry(
    "gMLP",
    area="images",
    known=(
        "channels that a transpose puts in the place of the tokens are "
        "not followed"
    ),
)
def gated_mlp():
    return patch_classifier(
        keras.Sequential([GatingLayer(16, 32, 0.2) for _ in range(3)])
    )


class StochasticDepth(layers.Layer):
    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if not training:
            return x
        keep = 1 - self.rate
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        noise = keras.random.uniform(shape, seed=self.seed_generator)
        return (x / keep) * ops.floor(keep + noise)


class SequencePooling(layers.Layer):
    def __init__(self):
        super().__init__()
        self.attention = layers.Dense(1)

    def call(self, x):
        weights = ops.softmax(self.attention(x), axis=1)
        weights = ops.transpose(weights, axes=(0, 2, 1))
        return ops.squeeze(ops.matmul(weights, x), axis=-2)


@entry(
    "compact convolutional transformer",
    area="images",
    limit=0.55,
    inherent=NORMALIZED,
)
def compact_transformer():
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (16, 32):
        x = layers.Conv2D(
            filters, 3, padding="valid", use_bias=False, activation="relu"
        )(x)
        x = layers.ZeroPadding2D(1)(x)
        x = layers.MaxPooling2D(3, 3, padding="same")(x)
    x = layers.Reshape((-1, 32))(x)
    rates = [0.0, 0.1]
    for rate in rates:
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.MultiHeadAttention(2, 32, dropout=0.1)(y, y)
        x = layers.Add()([StochasticDepth(rate)(y), x])
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = feed_forward(y, [48, 32], 0.1)
        x = layers.Add()([StochasticDepth(rate)(y), x])
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    x = SequencePooling()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def partition(x, window):
    _, rows, columns, channels = x.shape
    x = ops.reshape(
        x,
        (-1, rows // window, window, columns // window, window, channels),
    )
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, window * window, channels))


def unpartition(x, window, rows, columns, channels):
    x = ops.reshape(
        x,
        (-1, rows // window, columns // window, window, window, channels),
    )
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows, columns, channels))


class WindowAttention(layers.Layer):
    def __init__(self, width, window, heads, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.window = window
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = layers.Dense(3 * width)
        self.projection = layers.Dense(width)

    def build(self, input_shape):
        side = 2 * self.window - 1
        self.table = self.add_weight(
            shape=(side * side, self.heads), initializer="random_normal"
        )
        steps = np.arange(self.window)
        rows, columns = (a.ravel() for a in np.meshgrid(steps, steps))
        rows = rows[:, None] - rows + self.window - 1
        columns = columns[:, None] - columns + self.window - 1
        self.index = (side * rows + columns).ravel()

    def call(self, x):
        _, size, channels = x.shape
        each = channels // self.heads
        qkv = self.qkv(x)
        qkv = ops.reshape(qkv, (-1, size, 3, self.heads, each))
        qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = (q * self.scale) @ ops.transpose(k, (0, 1, 3, 2))
        bias = ops.take(self.table, self.index, axis=0)
        bias = ops.reshape(bias, (size, size, -1))
        bias = ops.transpose(bias, (2, 0, 1))
        scores = scores + ops.expand_dims(bias, axis=0)
        x = ops.softmax(scores, axis=-1) @ v
        x = ops.transpose(x, (0, 2, 1, 3))
        return self.projection(ops.reshape(x, (-1, size, channels)))


class SwinBlock(layers.Layer):
    def __init__(self, width, size, heads, window, shift):
        super().__init__()
        self.width = width
        self.size = size
        self.window = window
        self.shift = shift
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.attention = WindowAttention(width, window, heads)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)
        self.mlp = keras.Sequential(
            [
                layers.Dense(2 * width),
                layers.Activation(keras.activations.gelu),
                layers.Dense(width),
            ]
        )

    def call(self, x):
        y = ops.reshape(self.norm1(x), (-1, self.size, self.size, self.width))
        if self.shift:
            y = ops.roll(y, (-self.shift, -self.shift), axis=(1, 2))
        windows = self.attention(partition(y, self.window))
        y = unpartition(windows, self.window, self.size, self.size, self.width)
        if self.shift:
            y = ops.roll(y, (self.shift, self.shift), axis=(1, 2))
        x = x + ops.reshape(y, (-1, self.size * self.size, self.width))
        return x + self.mlp(self.norm2(x))


class PatchMerging(layers.Layer):
    def __init__(self, size, width):
        super().__init__()
        self.size = size
        self.width = width
        self.linear = layers.Dense(2 * width, use_bias=False)

    def call(self, x):
        x = ops.reshape(x, (-1, self.size, self.size, self.width))
        x = ops.concatenate(
            [
                x[:, 0::2, 0::2],
                x[:, 1::2, 0::2],
                x[:, 0::2, 1::2],
                x[:, 1::2, 1::2],
            ],
            axis=-1,
        )
        x = ops.reshape(x, (-1, (self.size // 2) ** 2, 4 * self.width))
        return self.linear(x)


@entry(
    "Swin transformer",
    area="images",
    known="heads are not followed through windows in the batch",
)
def swin_transformer():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(32, 4, strides=4)(inputs)
    x = layers.Reshape((64, 32))(x)
    x = SwinBlock(32, 8, heads=4, window=4, shift=0)(x)
    x = SwinBlock(32, 8, heads=4, window=4, shift=2)(x)
    x = PatchMerging(8, 32)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))


def activation_block(x):
    x = layers.Activation("gelu")(x)
    return layers.BatchNormalization()(x)


@entry("ConvMixer", area="images")
def conv_mixer():
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(scale=1.0 / 255)(inputs)
    x = activation_block(layers.Conv2D(48, 4, strides=4)(x))
    for _ in range(3):
        y = x
        x = activation_block(layers.DepthwiseConv2D(5, padding="same")(x))
        x = layers.Add()([x, y])
        x = activation_block(layers.Conv2D(48, 1)(x))
    x = layers.GlobalAvgPool2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))


def external_attention(x, width, heads, memory):
    _, tokens, channels = x.shape
    heads = 2 * heads
    x = layers.Dense(2 * width)(x)
    x = ops.reshape(x, (-1, tokens, heads, 2 * width // heads))
    x = ops.transpose(x, axes=[0, 2, 1, 3])
    attention = layers.Dense(memory)(x)
    attention = layers.Softmax(axis=2)(attention)
    attention = layers.Lambda(
        lambda a: a / (1e-9 + ops.sum(a, axis=-1, keepdims=True))
    )(attention)
    x = layers.Dense(2 * width // heads)(attention)
    x = ops.transpose(x, axes=[0, 2, 1, 3])
    x = ops.reshape(x, [-1, tokens, 2 * width])
    return layers.Dense(channels)(x)


@entry(
    "external attention network", area="images", limit=0.65, inherent=NORMALIZED
)
def external_attention_network():
    inputs = keras.Input((24, 24, 3))
    x = PatchEncoder(16, 32)(Patches(6)(inputs))
    for _ in range(2):
        residual = x
        x = layers.LayerNormalization(epsilon=1e-5)(x)
        x = layers.add([external_attention(x, 32, 2, 24), residual])
        residual = x
        x = layers.LayerNormalization(epsilon=1e-5)(x)
        x = layers.add([feed_forward(x, [32, 32], 0.2), residual])
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))


class Perceiver(keras.Model):
    """Reads the latent array again and again, with shared weights."""

    def __init__(self, tokens=16, width=24, latents=8, rounds=2):
        super().__init__()
        self.rounds = rounds
        self.patches = Patches(8)
        self.encoder = PatchEncoder(tokens, width)
        self.latents = self.add_weight(
            shape=(latents, width), initializer="random_normal"
        )
        self.norm_data = layers.LayerNormalization()
        self.norm_latents = layers.LayerNormalization()
        self.cross = layers.Attention(use_scale=True)
        self.query = layers.Dense(width)
        self.key = layers.Dense(width)
        self.value = layers.Dense(width)
        self.block = EncoderBlock(2, width, 2 * width)
        self.head = layers.Dense(CLASSES)

    def call(self, images):
        data = self.norm_data(self.encoder(self.patches(images)))
        x = ops.expand_dims(self.latents, 0)
        for _ in range(self.rounds):
            query = self.query(self.norm_latents(x))
            query = query + ops.zeros_like(data[:, :1, :1])
            x = x + self.cross([query, self.value(data), self.key(data)])
            x = self.block(x)
        return self.head(ops.mean(x, axis=1))


@entry(
    "Perceiver",
    area="images",
    inputs=lambda rng, examples: rng.random((examples, 32, 32, 3), "float32"),
    known="queries that are the same for all examples are not followed",
)
def perceiver():
    model = Perceiver()
    model(ops.zeros((1, 32, 32, 3)))
    return model
