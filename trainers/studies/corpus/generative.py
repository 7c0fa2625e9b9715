"""Networks that generate."""

import math

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry


def sinusoidal_embedding(x):
    frequencies = ops.exp(ops.linspace(ops.log(1.0), ops.log(100.0), 16 // 2))
    angles = ops.cast(2.0 * math.pi * frequencies, "float32")
    return ops.concatenate([ops.sin(angles * x), ops.cos(angles * x)], axis=3)


def ResidualBlock(width):
    def apply(x):
        if x.shape[3] == width:
            residual = x
        else:
            residual = layers.Conv2D(width, kernel_size=1)(x)
        x = layers.BatchNormalization(center=False, scale=False)(x)
        x = layers.Conv2D(
            width, kernel_size=3, padding="same", activation="swish"
        )(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same")(x)
        return layers.Add()([x, residual])

    return apply


@entry("DDIM", area="generation")
def ddim():
    images = keras.Input((16, 16, 3))
    variances = keras.Input((1, 1, 1))
    e = layers.Lambda(sinusoidal_embedding, output_shape=(1, 1, 16))(variances)
    e = layers.UpSampling2D(size=16, interpolation="nearest")(e)
    x = layers.Conv2D(12, kernel_size=1)(images)
    x = layers.Concatenate()([x, e])
    skips = []
    for width in (12, 16):
        for _ in range(2):
            x = ResidualBlock(width)(x)
            skips.append(x)
        x = layers.AveragePooling2D(pool_size=2)(x)
    x = ResidualBlock(24)(x)
    for width in (16, 12):
        x = layers.UpSampling2D(size=2, interpolation="bilinear")(x)
        for _ in range(2):
            x = layers.Concatenate()([x, skips.pop()])
            x = ResidualBlock(width)(x)
    x = layers.Conv2D(3, kernel_size=1, kernel_initializer="zeros")(x)
    return keras.Model([images, variances], x, name="residual_unet")


class TimeEmbedding(layers.Layer):
    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.half_dim = dim // 2
        rate = math.log(10000) / (self.half_dim - 1)
        self.emb = ops.exp(ops.arange(self.half_dim, dtype="float32") * -rate)

    def call(self, inputs):
        inputs = ops.cast(inputs, dtype="float32")
        emb = inputs[:, None] * self.emb[None, :]
        return ops.concatenate([ops.sin(emb), ops.cos(emb)], axis=-1)


class AttentionBlock(layers.Layer):
    def __init__(self, units, groups=4, **kwargs):
        self.units = units
        self.groups = groups
        super().__init__(**kwargs)
        self.norm = layers.GroupNormalization(groups=groups)
        self.query = layers.Dense(units)
        self.key = layers.Dense(units)
        self.value = layers.Dense(units)
        self.proj = layers.Dense(units)

    def call(self, inputs):
        shape = ops.shape(inputs)
        height, width = shape[1], shape[2]
        x = self.norm(inputs)
        q, k, v = self.query(x), self.key(x), self.value(x)
        score = ops.einsum("bhwc,bHWc->bhwHW", q, k)
        score = score * ops.cast(self.units, score.dtype) ** -0.5
        score = ops.reshape(score, [-1, height, width, height * width])
        score = ops.softmax(score, -1)
        score = ops.reshape(score, [-1, height, width, height, width])
        x = ops.einsum("bhwHW,bHWc->bhwc", score, v)
        return inputs + self.proj(x)


def timed_block(width, groups=4, activation_fn=keras.activations.swish):
    def apply(inputs):
        x, t = inputs
        residual = x
        if x.shape[3] != width:
            residual = layers.Conv2D(width, kernel_size=1)(x)
        temb = activation_fn(t)
        temb = layers.Dense(width)(temb)[:, None, None, :]
        x = layers.GroupNormalization(groups=groups)(x)
        x = activation_fn(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same")(x)
        x = layers.Add()([x, temb])
        x = layers.GroupNormalization(groups=groups)(x)
        x = activation_fn(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same")(x)
        return layers.Add()([x, residual])

    return apply


@entry("DDPM", area="generation", high=1000)
def ddpm():
    image = layers.Input((16, 16, 3), name="image_input")
    time = keras.Input((), dtype="int64", name="time_input")
    x = layers.Conv2D(16, kernel_size=(3, 3), padding="same")(image)
    temb = TimeEmbedding(dim=32)(time)
    temb = layers.Dense(32, activation=keras.activations.swish)(temb)
    temb = layers.Dense(32)(temb)
    skips = [x]
    x = timed_block(16)([x, temb])
    skips.append(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    x = timed_block(24)([x, temb])
    x = AttentionBlock(24)(x)
    x = timed_block(24)([x, temb])
    x = layers.UpSampling2D(size=2, interpolation="nearest")(x)
    x = layers.Conv2D(16, 3, padding="same")(x)
    for skip in reversed(skips):
        x = layers.Concatenate(axis=-1)([x, skip])
        x = timed_block(16)([x, temb])
    x = layers.GroupNormalization(groups=4)(x)
    x = keras.activations.swish(x)
    x = layers.Conv2D(3, (3, 3), padding="same")(x)
    return keras.Model([image, time], x, name="unet")


@entry("GAN, generator", area="generation")
def gan_generator():
    return keras.Sequential(
        [
            keras.Input(shape=(24,)),
            layers.Dense(4 * 4 * 24),
            layers.Reshape((4, 4, 24)),
            layers.Conv2DTranspose(
                24, kernel_size=4, strides=2, padding="same"
            ),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2DTranspose(
                32, kernel_size=4, strides=2, padding="same"
            ),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(
                3, kernel_size=5, padding="same", activation="sigmoid"
            ),
        ],
        name="generator",
    )


@entry("GAN, discriminator", area="generation")
def gan_discriminator():
    return keras.Sequential(
        [
            keras.Input(shape=(16, 16, 3)),
            layers.Conv2D(16, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(32, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ],
        name="discriminator",
    )


@entry("conditional GAN, generator", area="generation", high=10)
def conditional_gan():
    noise = keras.Input((16,), name="noise")
    label = keras.Input((1,), dtype="int32", name="label")
    e = layers.Embedding(10, 12)(label)
    e = layers.Dense(16)(layers.Flatten()(e))
    e = layers.Reshape((4, 4, 1))(e)
    x = layers.Dense(4 * 4 * 20)(noise)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Reshape((4, 4, 20))(x)
    x = layers.Concatenate()([x, e])
    for filters in (24, 16):
        x = layers.Conv2DTranspose(
            filters, 4, 2, padding="same", use_bias=False
        )(x)
        x = layers.BatchNormalization()(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    return keras.Model(
        [noise, label], layers.Conv2D(1, 5, 1, "same", activation="tanh")(x)
    )


class ReflectionPadding2D(layers.Layer):
    def __init__(self, padding=(1, 1), **kwargs):
        self.padding = tuple(padding)
        super().__init__(**kwargs)

    def call(self, x, mask=None):
        columns, rows = self.padding
        pads = [[0, 0], [rows, rows], [columns, columns], [0, 0]]
        return ops.pad(x, pads, mode="reflect")


GAMMA = keras.initializers.RandomNormal(mean=1.0, stddev=0.02)


def instance_norm(x):
    return layers.GroupNormalization(groups=-1, gamma_initializer=GAMMA)(x)


def cycle_residual(x, activation):
    dim = x.shape[-1]
    entering = x
    x = ReflectionPadding2D()(x)
    x = layers.Conv2D(dim, 3, padding="valid", use_bias=False)(x)
    x = activation(instance_norm(x))
    x = ReflectionPadding2D()(x)
    x = layers.Conv2D(dim, 3, padding="valid", use_bias=False)(x)
    return layers.add([entering, instance_norm(x)])


@entry("CycleGAN, generator", area="generation")
def cycle_gan():
    image = layers.Input(shape=(16, 16, 3), name="image_input")
    x = ReflectionPadding2D(padding=(3, 3))(image)
    x = layers.Conv2D(8, 7, use_bias=False)(x)
    x = layers.Activation("relu")(instance_norm(x))
    for filters in (16, 24):
        x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(instance_norm(x))
    for _ in range(2):
        x = cycle_residual(x, activation=layers.Activation("relu"))
    for filters in (16, 8):
        x = layers.Conv2DTranspose(
            filters, 3, strides=2, padding="same", use_bias=False
        )(x)
        x = layers.Activation("relu")(instance_norm(x))
    x = ReflectionPadding2D(padding=(3, 3))(x)
    x = layers.Conv2D(3, (7, 7), padding="valid")(x)
    x = layers.Activation("tanh")(x)
    return keras.Model(image, x, name="generator_G")


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        batch, dim = ops.shape(z_mean)[0], ops.shape(z_mean)[1]
        epsilon = keras.random.normal((batch, dim), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


@entry("VAE, encoder", area="generation")
def vae_encoder():
    inputs = keras.Input(shape=(16, 16, 1))
    x = layers.Conv2D(16, 3, activation="relu", strides=2, padding="same")(
        inputs
    )
    x = layers.Conv2D(24, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu")(x)
    z_mean = layers.Dense(2, name="z_mean")(x)
    z_log_var = layers.Dense(2, name="z_log_var")(x)
    z = Sampling()([z_mean, z_log_var])
    return keras.Model(inputs, [z_mean, z_log_var, z], name="encoder")


@entry("VAE, decoder", area="generation")
def vae_decoder():
    latent_inputs = keras.Input(shape=(2,))
    x = layers.Dense(4 * 4 * 24, activation="relu")(latent_inputs)
    x = layers.Reshape((4, 4, 24))(x)
    x = layers.Conv2DTranspose(
        24, 3, activation="relu", strides=2, padding="same"
    )(x)
    x = layers.Conv2DTranspose(
        16, 3, activation="relu", strides=2, padding="same"
    )(x)
    outputs = layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")
    return keras.Model(latent_inputs, outputs(x), name="decoder")


class VectorQuantizer(layers.Layer):
    def __init__(self, num_embeddings, embedding_dim, beta=0.25, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        self.num_embeddings = num_embeddings
        self.beta = beta
        self.embeddings = self.add_weight(
            shape=(embedding_dim, num_embeddings),
            initializer=keras.initializers.RandomUniform(),
            trainable=True,
            name="embeddings_vqvae",
        )

    def call(self, x):
        shape = ops.shape(x)
        flat = ops.reshape(x, [-1, self.embedding_dim])
        distances = (
            ops.sum(flat**2, axis=1, keepdims=True)
            + ops.sum(self.embeddings**2, axis=0)
            - 2 * ops.matmul(flat, self.embeddings)
        )
        encodings = ops.one_hot(
            ops.argmin(distances, axis=1), self.num_embeddings
        )
        quantized = ops.matmul(encodings, ops.transpose(self.embeddings))
        quantized = ops.reshape(quantized, shape)
        self.add_loss(
            self.beta * ops.mean((ops.stop_gradient(quantized) - x) ** 2)
        )
        return x + ops.stop_gradient(quantized - x)


@entry("VQ-VAE", area="generation")
def vq_vae():
    encoder_inputs = keras.Input(shape=(16, 16, 1))
    x = layers.Conv2D(16, 3, activation="relu", strides=2, padding="same")(
        encoder_inputs
    )
    x = layers.Conv2D(24, 3, activation="relu", strides=2, padding="same")(x)
    encoder = keras.Model(
        encoder_inputs, layers.Conv2D(8, 1, padding="same")(x), name="encoder"
    )
    latent = keras.Input(shape=encoder.output.shape[1:])
    x = layers.Conv2DTranspose(24, 3, 2, padding="same", activation="relu")(
        latent
    )
    x = layers.Conv2DTranspose(16, 3, 2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(1, 3, padding="same")(x)
    decoder = keras.Model(latent, x, name="decoder")
    inputs = keras.Input(shape=(16, 16, 1))
    quantized = VectorQuantizer(16, 8, name="vector_quantizer")(encoder(inputs))
    return keras.Model(inputs, decoder(quantized), name="vq_vae")


class PixelConvLayer(layers.Layer):
    def __init__(self, mask_type, **kwargs):
        super().__init__()
        self.mask_type = mask_type
        self.conv = layers.Conv2D(**kwargs)

    def build(self, input_shape):
        self.conv.build(input_shape)
        rows, columns = self.conv.kernel.shape[:2]
        mask = ops.ones((rows, columns))
        mask = ops.slice_update(
            mask, (rows // 2 + 1, 0), ops.zeros((rows // 2, columns))
        )
        start = columns // 2 + (self.mask_type == "B")
        row = ops.cast(ops.arange(columns) < start, "float32")[None]
        self.mask = ops.slice_update(mask, (rows // 2, 0), row)[
            :, :, None, None
        ]

    def call(self, inputs):
        self.conv.kernel.assign(self.conv.kernel * self.mask)
        return self.conv(inputs)


@entry(
    "PixelCNN",
    area="generation",
    known="layers that write to their weights in each call are not opened",
)
def pixel_cnn():
    inputs = keras.Input(shape=(12, 12, 1))
    x = PixelConvLayer(
        mask_type="A",
        filters=16,
        kernel_size=7,
        activation="relu",
        padding="same",
    )(inputs)
    for _ in range(2):
        y = layers.Conv2D(8, 1, activation="relu")(x)
        y = PixelConvLayer(
            mask_type="B",
            filters=8,
            kernel_size=3,
            activation="relu",
            padding="same",
        )(y)
        y = layers.Conv2D(16, 1, activation="relu")(y)
        x = layers.add([x, y])
    out = layers.Conv2D(1, 1, activation="sigmoid", padding="valid")(x)
    return keras.Model(inputs, out)


class AdaIN(layers.Layer):
    def call(self, inputs):
        style, content = inputs
        style_mean, style_var = ops.moments(style, axes=(1, 2), keepdims=True)
        mean, var = ops.moments(content, axes=(1, 2), keepdims=True)
        normal = (content - mean) / ops.sqrt(var + 1e-5)
        return normal * ops.sqrt(style_var + 1e-5) + style_mean


@entry("style transfer, AdaIN", area="generation")
def style_transfer():
    encoder = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(12, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(24, 3, padding="same", activation="relu"),
        ]
    )
    encoder.trainable = False
    style = keras.Input((16, 16, 3), name="style")
    content = keras.Input((16, 16, 3), name="content")
    x = AdaIN()([encoder(style), encoder(content)])
    x = layers.Conv2D(24, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D()(x)
    x = layers.Conv2D(12, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model([style, content], x)


def coupling(input_shape, hidden):
    inputs = layers.Input((input_shape,))
    t = layers.Dense(hidden, activation="relu")(inputs)
    t = layers.Dense(hidden, activation="relu")(t)
    t = layers.Dense(input_shape, activation="linear")(t)
    s = layers.Dense(hidden, activation="relu")(inputs)
    s = layers.Dense(hidden, activation="relu")(s)
    s = layers.Dense(input_shape, activation="tanh")(s)
    return keras.Model(inputs=inputs, outputs=[s, t])


class RealNVP(keras.Model):
    def __init__(self, count):
        super().__init__()
        self.masks = [[0.0, 1.0], [1.0, 0.0]] * (count // 2)
        self.layers_list = [coupling(2, 24) for _ in range(count)]

    def call(self, x):
        log_det = 0.0
        for mask, layer in zip(self.masks, self.layers_list):
            mask = ops.array(mask)
            kept = x * mask
            reversed_mask = 1 - mask
            s, t = layer(kept)
            s, t = s * reversed_mask, t * reversed_mask
            x = reversed_mask * (x * ops.exp(s) + t) + kept
            log_det += ops.sum(s, axis=[1])
        return x, log_det


@entry(
    "Real NVP, subclassed",
    area="generation",
    inputs=lambda rng, n: rng.standard_normal((n, 2)).astype("float32"),
)
def real_nvp():
    model = RealNVP(4)
    model(ops.zeros((1, 2)))
    return model
