"""Small networks with one difficulty each, for the tests of the graph."""

import keras
import numpy as np
from keras import layers

import l0keras


def conv_norm(x, filters, size=3, activation=True, **kwargs):
    x = layers.Conv2D(filters, size, padding="same", **kwargs)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if activation else x


def head(x, classes=4):
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


def chain():
    inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D()(conv_norm(inputs, 6))
    x = layers.Flatten()(conv_norm(x, 5))
    x = layers.Dense(7, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(4)(x))


def residual():
    inputs = keras.Input((8, 8, 3))
    x = conv_norm(inputs, 6)
    for _ in range(2):
        y = conv_norm(conv_norm(x, 4), 6, activation=False)
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(inputs, head(x))


def residual_before_activation():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = conv_norm(y, 4)
        x = x + layers.Conv2D(6, 3, padding="same")(y)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, head(x))


def one_convolution_residual():
    """A layer that reads and makes channels of the same group."""
    inputs = keras.Input((8, 8, 3))
    x = conv_norm(inputs, 6)
    x = layers.Add()([x, layers.Conv2D(6, 3, padding="same")(x)])
    return keras.Model(inputs, head(x))


def dense_concat():
    inputs = keras.Input((8, 8, 3))
    x = conv_norm(inputs, 5)
    for _ in range(3):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(4, 1)(y)])
    return keras.Model(inputs, head(x))


def concat_then_add():
    inputs = keras.Input((8, 8, 3))
    joined = layers.Concatenate()([conv_norm(inputs, 3), conv_norm(inputs, 4)])
    x = layers.Add()([joined, conv_norm(inputs, 7)])
    return keras.Model(inputs, head(x))


def concat_with_input():
    inputs = keras.Input((8, 8, 3))
    x = layers.Concatenate()([inputs, conv_norm(inputs, 4), inputs])
    return keras.Model(inputs, head(conv_norm(x, 3)))


def squeeze_excite():
    inputs = keras.Input((8, 8, 3))
    x = conv_norm(inputs, 6)
    y = conv_norm(x, 8)
    s = layers.GlobalAveragePooling2D()(y)
    s = layers.Reshape((1, 1, 8))(s)
    s = layers.Conv2D(3, 1, activation="relu")(s)
    s = layers.Conv2D(8, 1, activation="sigmoid")(s)
    y = layers.Multiply()([y, s])
    y = conv_norm(y, 6, activation=False)
    return keras.Model(inputs, head(layers.Add()([x, y])))


def depthwise():
    inputs = keras.Input((8, 8, 3))
    x = conv_norm(inputs, 5)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    return keras.Model(inputs, head(conv_norm(x, 6, size=1)))


def grouped():
    inputs = keras.Input((8, 8, 3))
    x = conv_norm(inputs, 8)
    x = conv_norm(x, 12, groups=4)
    return keras.Model(inputs, head(x))


def shared_layer():
    inputs = keras.Input((6,))
    dense = layers.Dense(6, activation="relu")
    x = dense(layers.Dense(6, activation="relu")(inputs))
    x = layers.Concatenate()([dense(x), layers.Dense(3)(x)])
    return keras.Model(inputs, layers.Dense(2)(x))


def two_outputs():
    inputs = {n: keras.Input((6,), name=n) for n in "ab"}
    a = layers.Dense(7, activation="relu")(inputs["a"])
    b = layers.Dense(7, activation="tanh")(inputs["b"])
    outputs = {"sum": layers.Dense(3)(a + b), "b": layers.Dense(2)(b)}
    return keras.Model(inputs, outputs)


def nested():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            layers.Conv2D(6, 3, padding="same", activation="relu"),
        ]
    )
    inputs = keras.Input((8, 8, 3))
    x = inner(inner(conv_norm(inputs, 6)))
    return keras.Model(inputs, head(x))


def sequence():
    inputs = keras.Input((7, 5))
    x = layers.Dense(9, activation="relu")(inputs)
    x = layers.LSTM(8, return_sequences=True)(x)
    x = layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True))(x)
    x = layers.GRU(6)(layers.TimeDistributed(layers.Dense(5))(x))
    return keras.Model(inputs, layers.Dense(3)(x))


def transformer():
    inputs = keras.Input((5, 4))
    x = layers.Dense(12)(inputs)
    for norm in (layers.RMSNormalization, layers.LayerNormalization):
        y = norm()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 3)(y, y)])
        y = layers.Dense(20, activation="gelu")(norm()(x))
        x = layers.Add()([x, layers.EinsumDense("abc,cd->abd", (5, 12))(y)])
    return keras.Model(inputs, layers.Dense(3)(x))


def attention_by_hand():
    """Two heads out of operations, on a stream that is normalized by RMS."""
    inputs = keras.Input((5, 4))
    x = layers.Dense(6)(inputs)
    y = layers.RMSNormalization()(x)
    q, k, v = (layers.Reshape((5, 2, 5))(layers.Dense(10)(y)) for _ in range(3))
    scores = keras.ops.softmax(keras.ops.einsum("bqhd,bkhd->bhqk", q, k))
    y = keras.ops.matmul(scores, keras.ops.transpose(v, (0, 2, 1, 3)))
    y = layers.Reshape((5, 10))(keras.ops.transpose(y, (0, 2, 1, 3)))
    x = layers.RMSNormalization()(x + layers.Dense(6)(y))
    x = layers.Dot(2)([x, layers.Dense(6)(x)])
    return keras.Model(inputs, layers.Dense(3)(x))


def fixed_channels():
    """Channels of which some are outputs, at places that are not the first."""
    inputs = keras.Input((8, 8, 3))
    x = conv_norm(inputs, 6)
    y = conv_norm(layers.Concatenate()([x, conv_norm(inputs, 3)]), 4)
    return keras.Model(inputs, [x[..., 2], x[..., 4:5], head(y)])


def regrouped():
    """A vector that becomes an image, and normalization by groups."""
    inputs = keras.Input((6,))
    x = layers.Dense(2 * 2 * 8, activation="relu")(inputs)
    x = layers.Conv2DTranspose(8, 3)(layers.Reshape((2, 2, 8))(x))
    x = layers.GroupNormalization(4)(x)
    x = layers.SeparableConv2D(6, 3, activation="relu")(x)
    return keras.Model(inputs, head(x))


ALL = [
    chain,
    residual,
    residual_before_activation,
    one_convolution_residual,
    dense_concat,
    concat_then_add,
    concat_with_input,
    squeeze_excite,
    depthwise,
    grouped,
    shared_layer,
    two_outputs,
    nested,
    sequence,
    transformer,
    attention_by_hand,
    fixed_channels,
    regrouped,
]


def randomize(model, rng):
    """Moves all weights, those of gates excepted, off their init."""
    for layer in model._flatten_layers(include_self=False):
        if layer._layers or isinstance(layer, l0keras.HardConcreteGate):
            continue
        for weight in layer.weights:
            values = 0.3 * rng.normal(size=weight.shape)
            if "variance" in weight.name:
                values = rng.uniform(0.5, 2.0, weight.shape)
            elif weight.name == "gamma":
                values = rng.uniform(0.5, 1.5, weight.shape)
            weight.assign(values)


def random_inputs(model, rng, examples=3):
    return keras.tree.map_structure(
        lambda x: rng.normal(size=(examples, *x.shape[1:])).astype("float32"),
        model.input,
    )


def outputs_of(model, inputs):
    """The outputs at test time, as a list of numpy arrays."""
    outputs = model(inputs, training=False)
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


def move_normalization(model, rng):
    """Moves what batch normalization has learned off its init."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, size),
                    0.3 * rng.normal(size=size),
                    0.3 * rng.normal(size=size),
                    rng.uniform(0.5, 2.0, size),
                ]
            )


def close_half(model, rng):
    for gate in l0keras.gates_of(model):
        shape = gate.log_alpha.shape
        log_alpha = rng.uniform(-2.0, 4.0, shape)
        shut = rng.permutation(shape[0]) < shape[0] // 2
        gate.log_alpha.assign(np.where(shut, -5.0, log_alpha))
