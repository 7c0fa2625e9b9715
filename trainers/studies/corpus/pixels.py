"""Networks that answer with images: masks, better images, boxes."""

import keras
import numpy as np
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry


def double_conv(x, filters):
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return x


@entry("U-Net", area="pixels")
def unet():
    inputs = keras.Input((32, 32, 3))
    skips = []
    x = inputs
    for filters in (8, 16, 24):
        x = double_conv(x, filters)
        skips.append(x)
        x = layers.Dropout(0.3)(layers.MaxPool2D(2)(x))
    x = double_conv(x, 32)
    for filters, skip in zip((24, 16, 8), reversed(skips)):
        x = layers.Conv2DTranspose(filters, 3, 2, padding="same")(x)
        x = layers.concatenate([x, skip])
        x = double_conv(layers.Dropout(0.3)(x), filters)
    outputs = layers.Conv2D(3, 1, padding="same", activation="softmax")(x)
    return keras.Model(inputs, outputs, name="U-Net")


@entry("U-Net with residuals", area="pixels")
def residual_unet():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same")(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    previous = x
    for filters in (16, 32):
        for _ in range(2):
            x = layers.Activation("relu")(x)
            x = layers.SeparableConv2D(filters, 3, padding="same")(x)
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(filters, 1, 2, padding="same")(previous)
        previous = x = layers.add([x, residual])
    for filters in (32, 16, 8):
        for _ in range(2):
            x = layers.Activation("relu")(x)
            x = layers.Conv2DTranspose(filters, 3, padding="same")(x)
            x = layers.BatchNormalization()(x)
        x = layers.UpSampling2D(2)(x)
        residual = layers.UpSampling2D(2)(previous)
        residual = layers.Conv2D(filters, 1, padding="same")(residual)
        previous = x = layers.add([x, residual])
    outputs = layers.Conv2D(3, 3, activation="softmax", padding="same")(x)
    return keras.Model(inputs, outputs)


def conv_block(x, filters=24, size=3, rate=1, use_bias=False):
    x = layers.Conv2D(
        *(filters, size),
        dilation_rate=rate,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.HeNormal(),
    )(x)
    x = layers.BatchNormalization()(x)
    return ops.nn.relu(x)


def spatial_pyramid(x):
    rows, columns = x.shape[1], x.shape[2]
    y = layers.AveragePooling2D((rows, columns))(x)
    y = conv_block(y, size=1, use_bias=True)
    pooled = layers.UpSampling2D((rows, columns), interpolation="bilinear")(y)
    parts = [pooled, conv_block(x, size=1)]
    parts += [conv_block(x, rate=rate) for rate in (2, 3, 4)]
    return conv_block(layers.Concatenate(axis=-1)(parts), size=1)


@entry("DeepLabV3+", area="pixels")
def deeplab():
    inputs = keras.Input((32, 32, 3))
    low = conv_block(inputs, 16)
    x = layers.MaxPooling2D(2)(low)
    x = conv_block(x, 24)
    x = layers.MaxPooling2D(2)(x)
    x = conv_block(x, 32, rate=2)
    x = spatial_pyramid(x)
    a = layers.UpSampling2D(4, interpolation="bilinear")(x)
    b = conv_block(low, 12, size=1)
    x = layers.Concatenate(axis=-1)([a, b])
    x = conv_block(conv_block(x))
    x = layers.Resizing(64, 64, interpolation="bilinear")(x)
    return keras.Model(inputs, layers.Conv2D(4, 1, padding="same")(x))


def selective_fusion(first, second):
    count = first.shape[-1]
    total = layers.Add()([first, second])
    pooled = layers.GlobalAveragePooling2D()(total)
    pooled = ops.reshape(pooled, (-1, 1, 1, count))
    compact = layers.Conv2D(count // 4, 1, activation="relu")(pooled)
    one = layers.Conv2D(count, 1, activation="softmax")(compact)
    two = layers.Conv2D(count, 1, activation="softmax")(compact)
    return layers.Add()([first * one, second * two])


class ChannelPooling(layers.Layer):
    def __init__(self, axis=-1, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.axis = axis
        self.concat = layers.Concatenate(axis=self.axis)

    def call(self, x):
        mean = ops.expand_dims(ops.mean(x, axis=-1), axis=-1)
        largest = ops.expand_dims(ops.max(x, axis=-1), axis=-1)
        return self.concat([mean, largest])

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}


def dual_attention(x):
    channels = x.shape[-1]
    features = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
    features = layers.Conv2D(channels, 3, padding="same")(features)
    spatial = ChannelPooling()(features)
    spatial = layers.Conv2D(1, 1)(spatial)
    spatial = features * keras.activations.sigmoid(spatial)
    y = layers.GlobalAveragePooling2D(keepdims=True)(features)
    y = layers.Conv2D(channels // 4, 1, activation="relu")(y)
    y = layers.Conv2D(channels, 1, activation="sigmoid")(y)
    y = layers.Concatenate(axis=-1)([features * y, spatial])
    y = layers.Conv2D(channels, 1)(y)
    return layers.Add()([x, y])


@entry("MIRNet", area="pixels")
def mirnet():
    inputs = keras.Input((16, 16, 3))
    x = start = layers.Conv2D(16, 3, padding="same")(inputs)
    down = layers.MaxPooling2D(2)(x)
    down = layers.Conv2D(16, 1)(down)
    top, low = dual_attention(x), dual_attention(down)
    up = layers.UpSampling2D(2, interpolation="bilinear")(low)
    up = layers.Conv2D(16, 1)(up)
    x = selective_fusion(top, up)
    x = layers.Conv2D(16, 3, padding="same")(x)
    x = layers.Add()([start, x])
    x = layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model(inputs, layers.Add()([inputs, x]))


class DepthToSpace(layers.Layer):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def call(self, x):
        batch, rows, columns, depth = ops.shape(x)
        depth = depth // self.size**2
        x = ops.reshape(x, (batch, rows, columns, self.size, self.size, depth))
        x = ops.transpose(x, [0, 1, 3, 2, 4, 5])
        return ops.reshape(
            x, (batch, rows * self.size, columns * self.size, depth)
        )


@entry("super-resolution", area="pixels", sizes=12)
def super_resolution():
    arguments = {
        "activation": "relu",
        "kernel_initializer": "orthogonal",
        "padding": "same",
    }
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(32, 5, **arguments)(inputs)
    x = layers.Conv2D(32, 3, **arguments)(x)
    x = layers.Conv2D(16, 3, **arguments)(x)
    x = layers.Conv2D(9, 3, **arguments)(x)
    return keras.Model(inputs, DepthToSpace(3)(x))


class UpscaleBlock(layers.Layer):
    def __init__(self, filters):
        super().__init__()
        self.conv1 = layers.Conv2D(4 * filters, 3, padding="same")
        self.filters = filters
        self.conv2 = layers.Conv2D(filters, 3, padding="same")

    def call(self, x):
        x = self.conv1(x)
        rows, columns = x.shape[1], x.shape[2]
        x = ops.reshape(x, (-1, rows, columns, 2, 2, self.filters))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, 2 * rows, 2 * columns, self.filters))
        return ops.clip(self.conv2(x), 0.0, 6.0)


class EDSR(keras.Model):
    """A functional model with steps of its own."""

    def predict_step(self, x):
        y = self(ops.expand_dims(x, 0), training=False)
        return ops.clip(y, 0, 255)


@entry("EDSR", area="pixels")
def edsr():
    inputs = keras.Input((12, 12, 3))
    x = layers.Rescaling(scale=1.0 / 255)(inputs)
    x = start = layers.Conv2D(16, 3, padding="same")(x)
    for _ in range(2):
        y = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        y = layers.Conv2D(16, 3, padding="same")(y)
        x = layers.Add()([x, y])
    x = layers.Add()([start, layers.Conv2D(16, 3, padding="same")(x)])
    x = UpscaleBlock(16)(x)
    x = layers.Conv2D(3, 3, padding="same")(x)
    outputs = layers.Rescaling(scale=255)(x)
    return EDSR(inputs, outputs)


@entry("Zero-DCE", area="pixels", sizes=12)
def zero_dce():
    image = keras.Input((None, None, 3))
    arguments = {"strides": (1, 1), "activation": "relu", "padding": "same"}
    conv1 = layers.Conv2D(16, 3, **arguments)(image)
    conv2 = layers.Conv2D(16, 3, **arguments)(conv1)
    conv3 = layers.Conv2D(16, 3, **arguments)(conv2)
    conv4 = layers.Conv2D(16, 3, **arguments)(conv3)
    both = layers.Concatenate(axis=-1)([conv4, conv3])
    conv5 = layers.Conv2D(16, 3, **arguments)(both)
    both = layers.Concatenate(axis=-1)([conv5, conv2])
    conv6 = layers.Conv2D(16, 3, **arguments)(both)
    both = layers.Concatenate(axis=-1)([conv6, conv1])
    curves = layers.Conv2D(12, 3, padding="same", activation="tanh")(both)
    x = image
    for index in range(4):
        curve = curves[:, :, :, 3 * index : 3 * index + 3]
        x = x + curve * (ops.square(x) - x)
    return keras.Model(image, x)


class FeaturePyramid(layers.Layer):
    def __init__(self, backbone=None, width=24, **kwargs):
        super().__init__(name="FeaturePyramid", **kwargs)
        self.backbone = backbone
        self.width = width
        self.lateral = [layers.Conv2D(width, 1, 1, "same") for _ in range(3)]
        self.smooth = [layers.Conv2D(width, 3, 1, "same") for _ in range(3)]
        self.coarser = layers.Conv2D(width, 3, 2, "same")
        self.upsample = layers.UpSampling2D(2)

    def call(self, images, training=False):
        c3, c4, c5 = self.backbone(images, training=training)
        p3, p4, p5 = (f(c) for f, c in zip(self.lateral, (c3, c4, c5)))
        p4 = p4 + self.upsample(p5)
        p3 = p3 + self.upsample(p4)
        p3, p4, p5 = (f(p) for f, p in zip(self.smooth, (p3, p4, p5)))
        return p3, p4, p5, self.coarser(c5)


def detector_backbone():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, 2, "same", use_bias=False)(inputs)
    outputs = []
    for filters in (16, 24, 32):
        x = layers.Conv2D(filters, 3, 2, "same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        outputs.append(x)
    return keras.Model(inputs, outputs)


def detector_head(filters, bias):
    head = keras.Sequential([keras.Input((None, None, 24))])
    for _ in range(2):
        head.add(
            layers.Conv2D(
                *(24, 3),
                padding="same",
                kernel_initializer=keras.initializers.RandomNormal(0, 0.05),
            )
        )
        head.add(layers.ReLU())
    head.add(
        layers.Conv2D(
            *(filters, 3, 1),
            padding="same",
            bias_initializer=bias,
        )
    )
    return head


class RetinaNet(keras.Model):
    def __init__(self, classes, backbone, **kwargs):
        super().__init__(name="RetinaNet", **kwargs)
        self.fpn = FeaturePyramid(backbone)
        self.classes = classes
        prior = keras.initializers.Constant(-np.log(0.99 / 0.01))
        self.class_head = detector_head(3 * classes, prior)
        self.box_head = detector_head(3 * 4, "zeros")

    def call(self, image, training=False):
        features = self.fpn(image, training=training)
        n = ops.shape(image)[0]
        classes, boxes = [], []
        for feature in features:
            boxes.append(ops.reshape(self.box_head(feature), [n, -1, 4]))
            classes.append(
                ops.reshape(self.class_head(feature), [n, -1, self.classes])
            )
        classes = ops.concatenate(classes, axis=1)
        boxes = ops.concatenate(boxes, axis=1)
        return ops.concatenate([boxes, classes], axis=-1)


@entry(
    "RetinaNet",
    area="pixels",
    inputs=lambda rng, examples: rng.random((examples, 32, 32, 3), "float32"),
)
def retinanet():
    model = RetinaNet(5, detector_backbone())
    model(np.zeros((1, 32, 32, 3), "float32"))
    return model


@entry("one box and a class", area="pixels")
def localizer():
    inputs = keras.Input((24, 24, 3), name="image")
    x = inputs
    for filters in (8, 16, 32):
        x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    box = layers.Dense(32, activation="relu")(x)
    box = layers.Dense(4, activation="sigmoid", name="box")(box)
    label = layers.Dense(32, activation="relu")(x)
    label = layers.Dense(6, activation="softmax", name="label")(label)
    return keras.Model(inputs, {"box": box, "label": label})


@entry("keypoints", area="pixels")
def keypoints():
    base = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(16, 3, 2, "same", activation="relu"),
            layers.Conv2D(32, 3, 2, "same", activation="relu"),
        ],
        name="features",
    )
    inputs = layers.Input((32, 32, 3))
    x = base(inputs, training=False)
    x = layers.Dropout(0.3)(x)
    x = layers.SeparableConv2D(32, kernel_size=5, activation="relu")(x)
    outputs = layers.SeparableConv2D(10, kernel_size=4, activation="sigmoid")(x)
    return keras.Model(inputs, outputs, name="keypoint_detector")
