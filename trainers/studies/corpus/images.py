"""Convolutional classifiers of images."""

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry

CLASSES = 10


class Involution(layers.Layer):
    def __init__(self, channels, groups, size, reduction, name):
        super().__init__(name=name)
        self.channels = channels
        self.groups = groups
        self.size = size
        self.reduction = reduction

    def build(self, input_shape):
        _, self.rows, self.columns, _ = input_shape
        self.generate = keras.Sequential(
            [
                layers.Conv2D(self.channels // self.reduction, 1),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(self.size * self.size * self.groups, 1),
            ]
        )
        self.generate.build(input_shape)

    def call(self, x):
        kernel = self.generate(x)
        kernel = ops.reshape(
            kernel,
            (-1, self.rows, self.columns, self.size**2, 1, self.groups),
        )
        patches = ops.image.extract_patches(
            x, (self.size, self.size), strides=1, padding="same"
        )
        patches = ops.reshape(
            patches,
            (
                *(-1, self.rows, self.columns, self.size**2),
                *(self.channels // self.groups, self.groups),
            ),
        )
        y = ops.sum(kernel * patches, axis=3)
        return ops.reshape(y, (-1, self.rows, self.columns, self.channels))


@entry(
    "involution",
    area="images",
)
def involution():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    for index in range(2):
        x = Involution(16, 2, 3, 2, f"involution_{index}")(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


@entry("MobileNet, transfer learning", area="images")
def transfer():
    base = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None
    )
    base.trainable = False
    augment = keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)]
    )
    inputs = keras.Input((32, 32, 3))
    x = augment(inputs)
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = base(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(1)(x))


class InvertedResidual(layers.Layer):
    def __init__(self, filters, strides, expansion=4):
        super().__init__()
        self.filters = filters
        self.strides = strides
        self.expansion = expansion

    def build(self, input_shape):
        self.residual = self.strides == 1 and input_shape[-1] == self.filters
        self.expand = layers.Conv2D(
            self.expansion * input_shape[-1], 1, use_bias=False
        )
        self.norm1 = layers.BatchNormalization()
        self.depthwise = layers.DepthwiseConv2D(
            3, self.strides, "same", use_bias=False
        )
        self.norm2 = layers.BatchNormalization()
        self.project = layers.Conv2D(self.filters, 1, use_bias=False)
        self.norm3 = layers.BatchNormalization()

    def call(self, x, training=False):
        y = self.norm1(self.expand(x), training=training)
        y = ops.relu6(y)
        y = self.norm2(self.depthwise(y), training=training)
        y = ops.relu6(y)
        y = self.norm3(self.project(y), training=training)
        return x + y if self.residual else y


@entry("MobileNetV2, own blocks", area="images")
def mobilenet_v2():
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(16, 3, 2, "same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(max_value=6.0),
            InvertedResidual(16, 1),
            InvertedResidual(24, 2),
            InvertedResidual(24, 1),
            InvertedResidual(32, 2),
            layers.Conv2D(64, 1, activation="relu6"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    return model


def swish(x):
    return x * keras.activations.sigmoid(x)


def mb_conv(x, filters, strides, expansion, size, name):
    entering = x
    width = expansion * x.shape[-1]
    x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_expand")(x)
    x = layers.BatchNormalization(name=f"{name}_expand_bn")(x)
    x = layers.Activation(swish, name=f"{name}_expand_act")(x)
    x = layers.DepthwiseConv2D(
        size, strides, padding="same", use_bias=False, name=f"{name}_dw"
    )(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.Activation(swish, name=f"{name}_act")(x)
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = layers.Conv2D(max(1, width // 8), 1, activation=swish)(s)
    s = layers.Conv2D(width, 1, activation="sigmoid")(s)
    x = layers.multiply([x, s], name=f"{name}_excite")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = layers.BatchNormalization(name=f"{name}_project_bn")(x)
    if strides == 1 and entering.shape[-1] == filters:
        x = layers.Dropout(0.2, noise_shape=(None, 1, 1, 1))(x)
        x = layers.add([x, entering])
    return x


@entry("EfficientNet, own blocks", area="images")
def efficientnet():
    inputs = keras.Input((32, 32, 3))
    x = layers.Normalization(mean=[0.5] * 3, variance=[0.08] * 3)(inputs)
    x = layers.Conv2D(16, 3, 2, "same", use_bias=False)(x)
    x = layers.Activation(swish)(layers.BatchNormalization()(x))
    x = mb_conv(x, 16, 1, 2, 3, "block1")
    x = mb_conv(x, 24, 2, 4, 3, "block2")
    x = mb_conv(x, 24, 1, 4, 5, "block3")
    x = layers.Conv2D(64, 1, use_bias=False)(x)
    x = layers.Activation(swish)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


class ResidualBlock(layers.Layer):
    def __init__(self, filters, stride=1, **kwargs):
        super().__init__(**kwargs)
        self.conv1 = layers.Conv2D(filters, 3, stride, "same", use_bias=False)
        self.bn1 = layers.BatchNormalization()
        self.conv2 = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.bn2 = layers.BatchNormalization()
        self.shortcut = None
        if stride != 1:
            self.shortcut = keras.Sequential(
                [
                    layers.Conv2D(filters, 1, stride, use_bias=False),
                    layers.BatchNormalization(),
                ]
            )

    def call(self, x, training=None):
        y = ops.relu(self.bn1(self.conv1(x), training=training))
        y = self.bn2(self.conv2(y), training=training)
        if self.shortcut is not None:
            x = self.shortcut(x, training=training)
        return ops.relu(x + y)


class ResNet(keras.Model):
    def __init__(self, widths, classes):
        super().__init__(name="resnet")
        self.stem = layers.Conv2D(widths[0], 3, padding="same")
        self.blocks = []
        for index, width in enumerate(widths):
            self.blocks.append(ResidualBlock(width, 1 if index == 0 else 2))
            self.blocks.append(ResidualBlock(width))
        self.pool = layers.GlobalAveragePooling2D()
        self.classifier = layers.Dense(classes)

    def call(self, x, training=None):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, training=training)
        return self.classifier(self.pool(x))


@entry(
    "ResNet, subclassed",
    area="images",
    inputs=lambda rng, examples: rng.random((examples, 16, 16, 3), "float32"),
)
def resnet():
    model = ResNet([16, 24, 32], CLASSES)
    model(keras.random.uniform((1, 16, 16, 3)))
    return model


@entry("DenseNet", area="images")
def densenet():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    for block in range(2):
        for _ in range(3):
            y = layers.BatchNormalization(epsilon=1.001e-5)(x)
            y = layers.Activation("relu")(y)
            y = layers.Conv2D(32, 1, use_bias=False)(y)
            y = layers.BatchNormalization(epsilon=1.001e-5)(y)
            y = layers.Activation("relu")(y)
            y = layers.Conv2D(8, 3, padding="same", use_bias=False)(y)
            x = layers.Concatenate(axis=-1)([x, y])
        if block == 0:
            x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
            x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False)(x)
            x = layers.AveragePooling2D(2, strides=2)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))


class SqueezeExcite(layers.Layer):
    def __init__(self, ratio=4):
        super().__init__()
        self.ratio = ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        self.pool = layers.GlobalAveragePooling2D()
        self.reduce = layers.Dense(channels // self.ratio, activation="relu")
        self.expand = layers.Dense(channels, activation="sigmoid")

    def call(self, x):
        scale = self.expand(self.reduce(self.pool(x)))
        return x * scale[:, None, None, :]


@entry("squeeze-and-excite network", area="images")
def squeeze_excite():
    inputs = keras.Input((16, 16, 3))
    x = inputs
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.LeakyReLU(negative_slope=0.1)(x)
        x = SqueezeExcite()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(32, activation="elu")(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


class ShakeDrop(layers.Layer):
    """Own noise while training, the same thing otherwise."""

    def call(self, x, training=False):
        if training:
            return x * keras.random.uniform((1,), 0.5, 1.5, seed=7)
        return x


@entry(
    "MNIST convnet",
    area="images",
    limit=0.85,
    inherent=(
        "a layer of its own that does something else in training has to "
        "stay as it is"
    ),
)
def mnist_convnet():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            ShakeDrop(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


@entry("Xception, from scratch", area="images")
def xception():
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    previous = x
    for size in (24, 32):
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(size, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(size, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(size, 1, strides=2, padding="same")(previous)
        x = layers.add([x, residual])
        previous = x
    x = layers.SeparableConv2D(48, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(1)(layers.Dropout(0.25)(x)))


class CapsuleSquash(layers.Layer):
    def call(self, x):
        squared = ops.sum(ops.square(x), axis=-1, keepdims=True)
        return x * (squared / (1 + squared)) / ops.sqrt(squared + 1e-7)


@entry("capsules", area="images")
def capsules():
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(16, 5, activation="relu")(inputs)
    x = layers.Conv2D(32, 5, strides=2)(x)
    x = layers.Reshape((-1, 8))(x)
    x = CapsuleSquash()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(CLASSES * 4)(x)
    x = layers.Reshape((CLASSES, 4))(x)
    x = CapsuleSquash()(x)
    lengths = layers.Lambda(
        lambda v: ops.sqrt(ops.sum(ops.square(v), axis=-1) + 1e-7),
        output_shape=(CLASSES,),
    )(x)
    return keras.Model(inputs, lengths)
