"""Networks on sound."""

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry


def residual_block(x, filters, conv_num=3, activation="relu"):
    s = layers.Conv1D(filters, 1, padding="same")(x)
    for _ in range(conv_num - 1):
        x = layers.Conv1D(filters, 3, padding="same")(x)
        x = layers.Activation(activation)(x)
    x = layers.Conv1D(filters, 3, padding="same")(x)
    x = layers.Add()([x, s])
    x = layers.Activation(activation)(x)
    return layers.MaxPool1D(pool_size=2, strides=2)(x)


@entry("speaker recognition", area="sound")
def speaker():
    inputs = layers.Input(shape=(128, 1), name="input")
    x = residual_block(inputs, 8, 2)
    x = residual_block(x, 12, 2)
    x = residual_block(x, 16, 3)
    x = layers.AveragePooling1D(pool_size=3, strides=3)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(32, activation="relu")(x)
    x = layers.Dense(16, activation="relu")(x)
    outputs = layers.Dense(5, activation="softmax", name="output")(x)
    return keras.Model(inputs=inputs, outputs=outputs)


@entry("keyword spotting, DS-CNN", area="sound")
def keyword_spotting():
    regularizer = keras.regularizers.l2(1e-4)
    inputs = keras.Input((49, 10, 1))
    x = layers.Conv2D(
        *(32, (10, 4)),
        strides=(2, 2),
        padding="same",
        kernel_regularizer=regularizer,
    )(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    x = layers.Dropout(rate=0.2)(x)
    for _ in range(3):
        x = layers.DepthwiseConv2D(
            3, padding="same", depthwise_regularizer=regularizer
        )(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.Conv2D(
            32, 1, padding="same", kernel_regularizer=regularizer
        )(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
    x = layers.Dropout(rate=0.4)(x)
    x = layers.AveragePooling2D(pool_size=(25, 5))(x)
    x = layers.Flatten()(x)
    outputs = layers.Dense(12, activation="softmax")(x)
    return keras.Model(inputs=inputs, outputs=outputs)


class LogMel(layers.Layer):
    """Sound to a spectrogram, inside of the model."""

    def __init__(self, length=32, stride=16, bins=12, **kwargs):
        super().__init__(**kwargs)
        self.length = length
        self.stride = stride
        self.bins = bins

    def build(self, input_shape):
        self.filters = self.add_weight(
            shape=(self.length // 2 + 1, self.bins),
            initializer=keras.initializers.RandomUniform(0, 0.1),
            trainable=False,
        )

    def call(self, x):
        real, imaginary = ops.stft(x, self.length, self.stride, self.length)
        power = ops.square(real) + ops.square(imaginary)
        return ops.log(ops.matmul(power, self.filters) + 1e-3)[..., None]


@entry("sounds from a waveform", area="sound")
def waveform():
    inputs = keras.Input((256,))
    x = LogMel()(inputs)
    x = layers.BatchNormalization(axis=2)(x)
    for filters in (12, 24):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.GlobalMaxPooling2D()(x)
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(8)(x))


class GatedActivation(layers.Layer):
    def call(self, x):
        a, b = ops.split(x, 2, axis=-1)
        return ops.tanh(a) * ops.sigmoid(b)


@entry("WaveNet", area="sound")
def wavenet():
    inputs = keras.Input((64, 1))
    x = layers.Conv1D(16, 2, padding="causal")(inputs)
    skips = []
    for rate in (1, 2, 4, 8):
        y = layers.Conv1D(32, 2, padding="causal", dilation_rate=rate)(x)
        y = GatedActivation()(y)
        skips.append(layers.Conv1D(24, 1)(y))
        x = layers.Add()([x, layers.Conv1D(16, 1)(y)])
    x = layers.ReLU()(layers.Add()(skips))
    x = layers.Conv1D(32, 1, activation="relu")(x)
    return keras.Model(inputs, layers.Conv1D(16, 1, activation="softmax")(x))


@entry(
    "denoising of speech, mask",
    area="sound",
    sizes=10,
    limit=0.5,
    inherent="one of its outputs are the units of a recurrent layer",
)
def denoising():
    spectrum = keras.Input((None, 40))
    x = layers.Dense(32, activation="tanh")(spectrum)
    vad, noise = layers.GRU(24, return_sequences=True, return_state=True)(x)
    voice = layers.Dense(1, activation="sigmoid", name="vad")(vad)
    x = layers.Concatenate()([vad, x])
    x = layers.GRU(32, return_sequences=True)(x)
    mask = layers.Dense(40, activation="sigmoid")(x)
    clean = layers.Multiply(name="clean")([mask, spectrum])
    return keras.Model(spectrum, [clean, voice, noise])
