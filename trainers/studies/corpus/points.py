"""Networks on points in space."""

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry


class OrthogonalRegularizer(keras.regularizers.Regularizer):
    def __init__(self, size, strength=0.001):
        self.size = size
        self.strength = strength
        self.identity = ops.eye(size)

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.size, self.size))
        xxt = ops.tensordot(x, x, axes=(2, 2))
        xxt = ops.reshape(xxt, (-1, self.size, self.size))
        return ops.sum(self.strength * ops.square(xxt - self.identity))


def conv_bn(x, filters):
    x = layers.Conv1D(filters, kernel_size=1, padding="valid")(x)
    x = layers.BatchNormalization(momentum=0.0)(x)
    return layers.Activation("relu")(x)


def dense_bn(x, filters):
    x = layers.Dense(filters)(x)
    x = layers.BatchNormalization(momentum=0.0)(x)
    return layers.Activation("relu")(x)


def t_net(inputs, size):
    x = conv_bn(inputs, 16)
    x = conv_bn(x, 32)
    x = layers.GlobalMaxPooling1D()(x)
    x = dense_bn(x, 32)
    x = layers.Dense(
        size * size,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(0.1),
        activity_regularizer=OrthogonalRegularizer(size),
    )(x)
    transform = layers.Reshape((size, size))(x)
    return layers.Dot(axes=(2, 1))([inputs, transform])


@entry("PointNet", area="points")
def pointnet():
    inputs = keras.Input((24, 3))
    x = t_net(inputs, 3)
    x = conv_bn(x, 16)
    x = conv_bn(x, 16)
    x = t_net(x, 16)
    x = conv_bn(x, 16)
    x = conv_bn(x, 32)
    x = conv_bn(x, 64)
    x = layers.GlobalMaxPooling1D()(x)
    x = dense_bn(x, 48)
    x = layers.Dropout(0.3)(x)
    x = dense_bn(x, 24)
    x = layers.Dropout(0.3)(x)
    outputs = layers.Dense(5, activation="softmax")(x)
    return keras.Model(inputs, outputs, name="pointnet")


@entry("PointNet, segmentation", area="points", sizes=24)
def pointnet_segmentation():
    points = 24
    inputs = keras.Input((None, 3))
    local = conv_bn(inputs, 16)
    x = conv_bn(conv_bn(local, 24), 48)
    pooled = layers.MaxPool1D(pool_size=points, name="global_features")(x)
    pooled = ops.tile(pooled, [1, points, 1])
    x = layers.Concatenate(name="input")([local, x, pooled])
    x = conv_bn(x, 32)
    x = layers.Conv1D(4, 1, activation="softmax", name="head")(x)
    return keras.Model(inputs, x)


class LocalEncoding(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, input_shape):
        self.mlp = keras.Sequential(
            [
                layers.Dense(self.units),
                layers.BatchNormalization(),
                layers.LeakyReLU(negative_slope=0.2),
            ]
        )

    def call(self, points, neighborhood):
        center = ops.expand_dims(points, 2) + ops.zeros_like(neighborhood)
        offset = center - neighborhood
        distance = ops.norm(offset + 1e-6, axis=-1, keepdims=True)
        return self.mlp(
            ops.concatenate([center, neighborhood, offset, distance], axis=-1)
        )


class AttentivePooling(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.score = layers.Dense(
            input_shape[-1], use_bias=False, activation=None
        )
        self.mlp = layers.Dense(self.units, activation="relu")

    def call(self, x):
        scores = ops.softmax(self.score(x), axis=2)
        return self.mlp(ops.sum(scores * x, axis=2))


@entry(
    "RandLA-Net",
    area="points",
    inputs=lambda rng, examples: {
        "points": rng.standard_normal((examples, 16, 3)).astype("float32"),
        "features": rng.standard_normal((examples, 16, 4)).astype("float32"),
        "neighbors": rng.integers(0, 16, (examples, 16, 5)).astype("int32"),
    },
)
def randla():
    points = keras.Input((16, 3), name="points")
    features = keras.Input((16, 4), name="features")
    index = keras.Input((16, 5), dtype="int32", name="neighbors")

    def gather(x):
        flat = layers.Reshape((-1, 1))(index)
        taken = ops.take_along_axis(x, flat, axis=1)
        return layers.Reshape((16, 5, x.shape[-1]))(taken)

    x = layers.Dense(16, activation="relu")(features)
    for units in (16, 24):
        space = LocalEncoding(units)(points, gather(points))
        local = layers.Concatenate()([gather(x), space])
        y = AttentivePooling(units)(local)
        x = layers.Dense(units)(x)
        x = layers.LeakyReLU()(layers.Add()([x, y]))
    top = ops.max(x, axis=1, keepdims=True)
    x = layers.Concatenate()([x, ops.tile(top, (1, 16, 1))])
    x = layers.Dense(32, activation="relu")(x)
    outputs = layers.Dense(6, name="logits")(x)
    inputs = {"points": points, "features": features, "neighbors": index}
    return keras.Model(inputs, outputs)


@entry("NeRF", area="points")
def nerf():
    inputs = keras.Input((20, 2 * 3 * 4 + 3))
    x = inputs
    for i in range(5):
        x = layers.Dense(32, activation="relu")(x)
        if i % 4 == 0 and i > 0:
            x = layers.concatenate([x, inputs], axis=-1)
    return keras.Model(inputs, layers.Dense(4)(x))


class PositionalEncoding(layers.Layer):
    def __init__(self, frequencies):
        super().__init__()
        self.frequencies = frequencies

    def call(self, x):
        parts = [x]
        for i in range(self.frequencies):
            parts += [f(2.0**i * x) for f in (ops.sin, ops.cos)]
        return ops.concatenate(parts, axis=-1)


@entry("NeRF that renders", area="points")
def rendering_nerf():
    origin = keras.Input((3,), name="origin")
    direction = keras.Input((3,), name="direction")
    steps = ops.reshape(ops.linspace(1.0, 3.0, 8), (1, 8, 1))
    samples = origin[:, None, :] + direction[:, None, :] * steps
    x = PositionalEncoding(3)(samples)
    for _ in range(3):
        x = layers.Dense(32, activation="relu")(x)
    density = layers.Dense(1, activation="softplus")(x)
    color = layers.Dense(3, activation="sigmoid")(x)
    alpha = 1.0 - ops.exp(-density * 0.25)
    passed = ops.cumprod(1.0 - alpha + 1e-10, axis=1)
    outputs = ops.sum(alpha * passed * color, axis=1)
    return keras.Model([origin, direction], outputs)


def siren(x):
    return ops.sin(3.0 * x)


@entry("SIREN", area="points")
def siren_image():
    model = keras.Sequential([keras.Input((2,))])
    for _ in range(3):
        model.add(
            layers.Dense(
                *(32, siren),
                kernel_initializer=keras.initializers.RandomUniform(-0.1, 0.1),
            )
        )
    model.add(layers.Dense(3))
    return model
