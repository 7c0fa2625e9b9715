"""Networks on time series."""

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry
from trainers.studies.corpus.reasons import NORMALIZED


@entry("ECG", area="series")
def ecg():
    inputs = keras.Input((96, 1))
    x = layers.Normalization(mean=0.1, variance=1.2)(inputs)
    for filters, kernel in ((12, 7), (24, 5), (32, 3)):
        x = layers.Conv1D(filters, kernel, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.LeakyReLU(negative_slope=0.05)(x)
        x = layers.MaxPooling1D(2)(x)
        x = layers.SpatialDropout1D(0.1)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(32, activation="relu", kernel_regularizer="l2")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


@entry("human activity, LSTM", area="series")
def activity_lstm():
    model = keras.Sequential()
    model.add(keras.Input((24, 6)))
    model.add(layers.LSTM(32, return_sequences=True))
    model.add(layers.Dropout(0.5))
    model.add(layers.LSTM(24))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(32, activation="relu"))
    model.add(layers.Dense(6, activation="softmax"))
    return model


@entry("human activity, CNN and LSTM", area="series")
def activity_cnn_lstm():
    frames = keras.Sequential(
        [
            keras.Input((16, 6)),
            layers.Conv1D(16, 3, activation="relu"),
            layers.Conv1D(16, 3, activation="relu"),
            layers.MaxPooling1D(2),
            layers.Flatten(),
        ]
    )
    inputs = keras.Input((4, 16, 6))
    x = layers.TimeDistributed(frames)(inputs)
    x = layers.LSTM(24)(x)
    x = layers.Dense(24, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(6, activation="softmax")(x))


def transformer_encoder(inputs, head_size, num_heads, ff_dim, dropout=0.0):
    x = layers.MultiHeadAttention(
        key_dim=head_size, num_heads=num_heads, dropout=dropout
    )(inputs, inputs)
    x = layers.Dropout(dropout)(x)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    res = x + inputs
    x = layers.Conv1D(filters=ff_dim, kernel_size=1, activation="relu")(res)
    x = layers.Dropout(dropout)(x)
    x = layers.Conv1D(filters=inputs.shape[-1], kernel_size=1)(x)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    return x + res


@entry("series, transformer", area="series", limit=0.55, inherent=NORMALIZED)
def series_transformer():
    inputs = keras.Input((40, 1))
    x = inputs
    for _ in range(3):
        x = transformer_encoder(x, 16, 4, 8, 0.25)
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    x = layers.Dense(32, activation="relu")(x)
    x = layers.Dropout(0.4)(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


@entry(
    "series, transformer over a convolution",
    area="series",
    limit=0.65,
    inherent=NORMALIZED,
)
def convolved_series_transformer():
    inputs = keras.Input((48, 3))
    x = layers.Conv1D(24, 8, strides=4, padding="same")(inputs)
    for _ in range(2):
        x = transformer_encoder(x, 8, 3, 48, 0.1)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(4)(x))


@entry("series, fully convolutional", area="series")
def series_cnn():
    inputs = keras.layers.Input((60, 1))
    x = inputs
    for _ in range(3):
        x = keras.layers.Conv1D(filters=32, kernel_size=3, padding="same")(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    gap = keras.layers.GlobalAveragePooling1D()(x)
    output = keras.layers.Dense(2, activation="softmax")(gap)
    return keras.models.Model(inputs=inputs, outputs=output)


@entry("weather forecast", area="series")
def weather():
    inputs = keras.layers.Input(shape=(20, 7))
    x = keras.layers.LSTM(32)(inputs)
    outputs = keras.layers.Dense(1)(x)
    return keras.Model(inputs=inputs, outputs=outputs)


class GraphConv(layers.Layer):
    """A graph that is given to the constructor, not as an input."""

    def __init__(
        self, in_feat, out_feat, edges, nodes, activation=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.out_feat = out_feat
        self.edges = edges
        self.nodes = nodes
        self.weight = self.add_weight(
            shape=(in_feat, out_feat),
            initializer=keras.initializers.GlorotUniform(),
            trainable=True,
        )
        self.activation = layers.Activation(activation)

    def call(self, features):
        neighbors = ops.take(features, self.edges[1], axis=0)
        summed = ops.segment_sum(
            neighbors, ops.array(self.edges[0]), num_segments=self.nodes
        )
        nodes = ops.matmul(features, self.weight)
        messages = ops.matmul(summed, self.weight)
        return self.activation(ops.concatenate([nodes, messages], axis=-1))


class LSTMGC(layers.Layer):
    def __init__(self, in_feat, out_feat, units, steps, horizon, graph, **kw):
        super().__init__(**kw)
        self.graph_conv = GraphConv(in_feat, out_feat, *graph, "relu")
        self.lstm = layers.LSTM(units, activation="relu")
        self.dense = layers.Dense(horizon)
        self.steps, self.width = steps, 2 * out_feat

    def call(self, inputs):
        inputs = ops.transpose(inputs, [2, 0, 1, 3])
        x = self.graph_conv(inputs)
        nodes, batch, steps, width = ops.shape(x)
        x = ops.reshape(x, (batch * nodes, self.steps, self.width))
        x = self.dense(self.lstm(x))
        x = ops.reshape(x, (nodes, batch, -1))
        return ops.transpose(x, [1, 2, 0])


@entry("traffic forecast, graph convolution and LSTM", area="series")
def traffic():
    edges = ([0, 1, 1, 2, 3, 3, 4], [1, 0, 2, 1, 4, 2, 3])
    inputs = layers.Input((6, 5, 1))
    outputs = LSTMGC(1, 8, 24, 6, 3, (edges, 5))(inputs)
    return keras.Model(inputs, outputs)


@entry("anomalies, dense autoencoder", area="series")
def anomaly_dense():
    encoder = keras.Sequential(
        [
            keras.Input((40,)),
            layers.Dense(32, activation="relu"),
            layers.Dense(16, activation="relu"),
            layers.Dense(8, activation="relu"),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(40, activation="sigmoid"),
        ],
        name="decoder",
    )
    inputs = keras.Input((40,))
    return keras.Model(inputs, decoder(encoder(inputs)))


@entry("anomalies, convolutional autoencoder", area="series")
def anomaly_conv():
    return keras.Sequential(
        [
            layers.Input(shape=(48, 1)),
            layers.Conv1D(32, 7, 2, "same", activation="relu"),
            layers.Dropout(rate=0.2),
            layers.Conv1D(16, 7, 2, "same", activation="relu"),
            layers.Conv1DTranspose(16, 7, 2, "same", activation="relu"),
            layers.Dropout(rate=0.2),
            layers.Conv1DTranspose(32, 7, 2, "same", activation="relu"),
            layers.Conv1DTranspose(filters=1, kernel_size=7, padding="same"),
        ]
    )


@entry("anomalies, LSTM autoencoder", area="series")
def anomaly_lstm():
    model = keras.Sequential()
    model.add(keras.Input((12, 4)))
    model.add(layers.LSTM(24, activation="tanh", return_sequences=True))
    model.add(layers.LSTM(12))
    model.add(layers.RepeatVector(12))
    model.add(layers.LSTM(12, return_sequences=True))
    model.add(layers.LSTM(24, return_sequences=True))
    model.add(layers.TimeDistributed(layers.Dense(4)))
    return model


class TemporalBlock(layers.Layer):
    def __init__(self, filters, dilation, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv1 = layers.Conv1D(
            filters, 3, padding="causal", dilation_rate=dilation
        )
        self.conv2 = layers.Conv1D(
            filters, 3, padding="causal", dilation_rate=dilation
        )
        self.norm = layers.LayerNormalization()
        self.drop = layers.SpatialDropout1D(0.1)
        self.match = None

    def build(self, input_shape):
        if input_shape[-1] != self.filters:
            self.match = layers.Conv1D(self.filters, 1)

    def call(self, x, training=None):
        y = ops.relu(self.conv1(x))
        y = self.drop(y, training=training)
        y = ops.relu(self.norm(self.conv2(y)))
        return y + (x if self.match is None else self.match(x))


@entry(
    "temporal convolutional network",
    area="series",
    sizes=16,
    limit=0.55,
    inherent=NORMALIZED,
)
def temporal_network():
    inputs = keras.Input((None, 5))
    x = inputs
    for rate in (1, 2, 4):
        x = TemporalBlock(24, rate, name=f"block_{rate}")(x)
    return keras.Model(inputs, layers.Dense(2)(x[:, -1, :]))


@entry("remaining life, GRU with a mask", area="series")
def remaining_life():
    inputs = keras.Input((20, 8))
    x = layers.Masking(mask_value=0.0)(inputs)
    x = layers.GRU(24, return_sequences=True)(x)
    x = layers.GRU(16)(x)
    return keras.Model(inputs, layers.Dense(1, activation="softplus")(x))


class NBeatsBlock(layers.Layer):
    def __init__(self, units, theta, horizon, lookback):
        super().__init__()
        self.hidden = [layers.Dense(units, "relu") for _ in range(3)]
        self.theta = layers.Dense(theta + horizon, "linear", name="theta")
        self.lookback = lookback

    def call(self, x):
        for layer in self.hidden:
            x = layer(x)
        theta = self.theta(x)
        return theta[:, : self.lookback], theta[:, self.lookback :]


@entry("N-BEATS", area="series")
def n_beats():
    inputs = keras.Input((24,), name="stack_input")
    backcast, forecast = NBeatsBlock(32, 24, 6, 24)(inputs)
    residuals = layers.subtract([inputs, backcast], name="subtract_00")
    for i in range(2):
        backcast, block_forecast = NBeatsBlock(32, 24, 6, 24)(residuals)
        residuals = layers.subtract([residuals, backcast], name=f"sub_{i}")
        forecast = layers.add([forecast, block_forecast], name=f"add_{i}")
    return keras.Model(inputs, forecast, name="N-BEATS")
