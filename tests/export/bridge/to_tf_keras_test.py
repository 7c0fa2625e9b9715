import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import l0keras
from l0keras.export import to_tf_keras
from tests import networks

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="tf_keras runs on TensorFlow",
)

VECTOR = (6,)
SEQUENCE = (7, 4)
IMAGE = (8, 8, 4)
VOLUME = (6, 6, 6, 4)

LAYERS = [
    (VECTOR, lambda: layers.Activation("tanh")),
    (VECTOR, lambda: layers.ActivityRegularization(l2=0.1)),
    (VECTOR, lambda: layers.AlphaDropout(0.3)),
    (SEQUENCE, lambda: layers.AveragePooling1D(2, padding="same")),
    (IMAGE, lambda: layers.AveragePooling2D(3, strides=2, padding="same")),
    (VOLUME, lambda: layers.AveragePooling3D(2)),
    (IMAGE, lambda: layers.BatchNormalization()),
    (IMAGE, lambda: layers.BatchNormalization(epsilon=1e-9)),
    (IMAGE, lambda: layers.BatchNormalization(axis=1, scale=False)),
    (SEQUENCE, lambda: layers.BatchNormalization(center=False)),
    (SEQUENCE, lambda: layers.Bidirectional(layers.LSTM(3))),
    (
        SEQUENCE,
        lambda: layers.Bidirectional(
            layers.GRU(3, return_sequences=True),
            merge_mode="sum",
            backward_layer=layers.GRU(
                3, activation="relu", return_sequences=True, go_backwards=True
            ),
        ),
    ),
    (IMAGE, lambda: layers.CenterCrop(4, 5)),
    (SEQUENCE, lambda: layers.Conv1D(3, 3, padding="causal", dilation_rate=2)),
    (SEQUENCE, lambda: layers.Conv1DTranspose(3, 2, strides=3)),
    (IMAGE, lambda: layers.Conv2D(6, 3, strides=2, groups=2)),
    (IMAGE, lambda: layers.Conv2D(3, (3, 2), activation="swish")),
    (IMAGE, lambda: layers.Conv2DTranspose(3, 3, 2, padding="same")),
    (IMAGE, lambda: layers.Conv2DTranspose(3, 2, 3, output_padding=1)),
    (VOLUME, lambda: layers.Conv3D(3, 2)),
    (VOLUME, lambda: layers.Conv3DTranspose(3, 2, strides=2)),
    ((3, *IMAGE), lambda: layers.ConvLSTM2D(2, 3, padding="same")),
    (
        (3, *SEQUENCE),
        lambda: layers.ConvLSTM1D(2, 3, recurrent_activation="hard_sigmoid"),
    ),
    (SEQUENCE, lambda: layers.Cropping1D((1, 2))),
    (IMAGE, lambda: layers.Cropping2D(((1, 0), (2, 1)))),
    (VOLUME, lambda: layers.Cropping3D(1)),
    (VECTOR, lambda: layers.Dense(3, activation="softmax")),
    (SEQUENCE, lambda: layers.Dense(3, use_bias=False)),
    (SEQUENCE, lambda: layers.DepthwiseConv1D(3, depth_multiplier=2)),
    (IMAGE, lambda: layers.DepthwiseConv2D(3, depth_multiplier=2)),
    (VECTOR, lambda: layers.Dropout(0.5, seed=3)),
    (VECTOR, lambda: layers.ELU(0.7)),
    (
        SEQUENCE,
        lambda: layers.EinsumDense("abc,cd->abd", (7, 5), bias_axes="d"),
    ),
    (IMAGE, lambda: layers.Flatten()),
    (IMAGE, lambda: layers.Flatten(data_format="channels_first")),
    (SEQUENCE, lambda: layers.GRU(5)),
    (SEQUENCE, lambda: layers.GRU(5, reset_after=False, go_backwards=True)),
    (VECTOR, lambda: layers.GaussianDropout(0.3)),
    (VECTOR, lambda: layers.GaussianNoise(0.3)),
    (SEQUENCE, lambda: layers.GlobalAveragePooling1D(keepdims=True)),
    (IMAGE, lambda: layers.GlobalAveragePooling2D()),
    (
        IMAGE,
        lambda: layers.GlobalAveragePooling2D(data_format="channels_first"),
    ),
    (VOLUME, lambda: layers.GlobalAveragePooling3D()),
    (SEQUENCE, lambda: layers.GlobalMaxPooling1D()),
    (IMAGE, lambda: layers.GlobalMaxPooling2D()),
    (VOLUME, lambda: layers.GlobalMaxPooling3D()),
    (IMAGE, lambda: layers.GroupNormalization(2)),
    (VECTOR, lambda: layers.Identity()),
    (SEQUENCE, lambda: layers.LSTM(5, return_sequences=True)),
    (SEQUENCE, lambda: layers.LSTM(5, recurrent_activation="hard_sigmoid")),
    (SEQUENCE, lambda: layers.LayerNormalization(epsilon=1e-6)),
    (IMAGE, lambda: layers.LayerNormalization(axis=(1, 3), center=False)),
    (VECTOR, lambda: layers.LeakyReLU(0.2)),
    (SEQUENCE, lambda: layers.Masking(0.0)),
    (SEQUENCE, lambda: layers.MaxPooling1D(3, padding="same")),
    (IMAGE, lambda: layers.MaxPooling2D((2, 3))),
    (VOLUME, lambda: layers.MaxPooling3D(2)),
    (VECTOR, lambda: layers.Normalization(mean=0.3, variance=2.0)),
    (VECTOR, lambda: layers.Normalization(invert=True)),
    (SEQUENCE, lambda: layers.PReLU(shared_axes=[1])),
    (SEQUENCE, lambda: layers.Permute((2, 1))),
    (SEQUENCE, lambda: layers.RNN(layers.LSTMCell(3))),
    (
        SEQUENCE,
        lambda: layers.RNN([layers.GRUCell(3), layers.SimpleRNNCell(4)]),
    ),
    (VECTOR, lambda: layers.ReLU(0.8, 0.1, 0.2)),
    (VECTOR, lambda: layers.RepeatVector(3)),
    (VECTOR, lambda: layers.Rescaling(0.3, 2.0)),
    (SEQUENCE, lambda: layers.Reshape((2, -1))),
    (IMAGE, lambda: layers.Resizing(5, 12)),
    (SEQUENCE, lambda: layers.SeparableConv1D(3, 3)),
    (IMAGE, lambda: layers.SeparableConv2D(3, 3, depth_multiplier=2)),
    (SEQUENCE, lambda: layers.SimpleRNN(3, unroll=True)),
    (SEQUENCE, lambda: layers.Softmax(axis=1)),
    (SEQUENCE, lambda: layers.SpatialDropout1D(0.3)),
    (IMAGE, lambda: layers.SpatialDropout2D(0.3)),
    (VOLUME, lambda: layers.SpatialDropout3D(0.3)),
    (
        SEQUENCE,
        lambda: layers.TimeDistributed(layers.Dense(3, activation="gelu")),
    ),
    (
        (3, *IMAGE),
        lambda: layers.TimeDistributed(
            keras.Sequential(
                [
                    keras.Input(IMAGE),
                    layers.BatchNormalization(),
                    layers.Conv2D(3, 3),
                ]
            )
        ),
    ),
    (VECTOR, lambda: layers.UnitNormalization()),
    (SEQUENCE, lambda: layers.UpSampling1D(3)),
    (IMAGE, lambda: layers.UpSampling2D((2, 3))),
    (IMAGE, lambda: layers.UpSampling2D(2, interpolation="bilinear")),
    (VOLUME, lambda: layers.UpSampling3D(2)),
    (SEQUENCE, lambda: layers.ZeroPadding1D((1, 2))),
    (IMAGE, lambda: layers.ZeroPadding2D(((1, 2), (0, 3)))),
    (
        IMAGE,
        lambda: layers.ZeroPadding2D(2, data_format="channels_first"),
    ),
    (VOLUME, lambda: layers.ZeroPadding3D(1)),
]

MERGES = [
    *(layers.Add, layers.Average, layers.Maximum, layers.Minimum),
    *(layers.Multiply, layers.Subtract, layers.Concatenate),
    *(lambda: layers.Dot(2, normalize=True), layers.Attention),
    *(lambda: layers.Attention(use_scale=True), layers.AdditiveAttention),
    *(lambda: layers.MultiHeadAttention(2, 3, value_dim=5),),
]

ACTIVATIONS = sorted(
    {
        function.__name__
        for name, function in vars(keras.activations).items()
        if name not in ("get", "serialize", "deserialize", "threshold", "glu")
        and type(function) is type(keras.activations.get)
    }
)

OPERATIONS = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "maximum": keras.ops.maximum,
    "minimum": keras.ops.minimum,
    "add a number": lambda x, y: 3.0 + x,
    "subtract a number": lambda x, y: x - 3.0,
    "subtract from a number": lambda x, y: 3.0 - x,
    "multiply by a number": lambda x, y: 3.0 * x,
    "divide by a number": lambda x, y: x / 3.0,
    "negative": lambda x, y: -x,
    "concatenate": lambda x, y: keras.ops.concatenate([x, y], axis=2),
    "reshape": lambda x, y: keras.ops.reshape(x, (-1, 7, 2, 2)),
    "expand": lambda x, y: keras.ops.expand_dims(x, 1),
    "squeeze": lambda x, y: keras.ops.squeeze(
        layers.GlobalMaxPooling1D(keepdims=True)(x), 1
    ),
    "transpose": lambda x, y: keras.ops.transpose(x, (0, 2, 1)),
    "mean": lambda x, y: keras.ops.mean(x, 1),
    "max": lambda x, y: keras.ops.max(x, -2, keepdims=True),
    "relu": lambda x, y: keras.ops.relu(x),
    "relu6": lambda x, y: keras.ops.relu6(10 * x),
    "relu of Keras": lambda x, y: keras.activations.relu(x, max_value=0.5),
    "leaky": lambda x, y: keras.ops.leaky_relu(x, 0.3),
    "softmax": lambda x, y: keras.ops.softmax(x, axis=1),
    "gelu": lambda x, y: keras.ops.gelu(x, approximate=False),
    "approximate gelu": lambda x, y: keras.ops.gelu(x, approximate=True),
    "hard silu": lambda x, y: keras.ops.hard_silu(3 * x),
    "celu": lambda x, y: keras.ops.celu(x, 0.4),
    "elu": lambda x, y: keras.ops.elu(x, 0.4),
    "silu": lambda x, y: keras.ops.silu(x),
    "exp": lambda x, y: keras.ops.exp(x),
}


@keras.saving.register_keras_serializable("to_tf_keras_test")
class Own(keras.regularizers.Regularizer):
    def __call__(self, x):
        return keras.ops.sum(x)

    def get_config(self):
        return {}


REFUSED = {
    "Lambda": (VECTOR, lambda: layers.Lambda(lambda x: tf.abs(x))),
    "RMSNormalization": (VECTOR, layers.RMSNormalization),
    "RandomFlip": (IMAGE, layers.RandomFlip),
    "its activation": (VECTOR, lambda: layers.Dense(3, lambda x: x)),
    "no `lora_rank`": (VECTOR, lambda: layers.Dense(3, lora_rank=2)),
    "no dtype policy": (
        VECTOR,
        lambda: layers.Dense(3, dtype="int8_from_float32"),
    ),
    "no `antialias`": (IMAGE, lambda: layers.Resizing(4, 4, antialias=True)),
    "no `data_format`": (
        SEQUENCE,
        lambda: layers.ZeroPadding1D(1, data_format="channels_first"),
    ),
    "its regularizer 'Own' is not of Keras": (
        VECTOR,
        lambda: layers.Dense(3, kernel_regularizer=Own()),
    ),
    "of the RMSNormalization inside it": (
        SEQUENCE,
        lambda: layers.TimeDistributed(layers.RMSNormalization()),
    ),
    "states from batch to batch": (
        SEQUENCE,
        lambda: layers.LSTM(3, stateful=True),
    ),
}


def assert_equal(model, inputs=None, tolerance=1e-6):
    """Moves the weights off their init and compares; returns the new model."""
    rng = np.random.default_rng(0)
    networks.randomize(model, rng)
    if inputs is None:
        inputs = networks.random_inputs(model, rng)
    expected = networks.outputs_of(model, inputs)
    converted = to_tf_keras(model)
    outputs = converted(inputs, training=False)
    keras.tree.assert_same_structure(
        outputs, keras.tree.map_structure(lambda x: x, model.output)
    )
    flat = keras.tree.flatten(outputs)
    for output, wanted in zip(flat, expected, strict=True):
        atol = tolerance * np.max(np.abs(wanted))
        assert atol > 0
        np.testing.assert_allclose(output.numpy(), wanted, rtol=0, atol=atol)
    return converted


@pytest.mark.parametrize("case", range(len(LAYERS)))
def test_layers(case):
    shape, make = LAYERS[case]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, make()(inputs))
    assert_equal(model)


def test_an_adapted_normalization():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(1).normal(2.0, 3.0, (50, 6)))
    inputs = keras.Input(VECTOR)
    assert_equal(keras.Model(inputs, layer(inputs)))


@pytest.mark.parametrize("case", range(len(MERGES)))
def test_layers_with_two_inputs(case):
    inputs = [keras.Input(SEQUENCE, name=name) for name in "ab"]
    layer = MERGES[case]()
    given = inputs
    if isinstance(layer, layers.MultiHeadAttention):
        outputs = layer(*inputs, use_causal_mask=True)
    else:
        outputs = layer(given)
    assert_equal(keras.Model(inputs, outputs))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    inputs = keras.Input(SEQUENCE)
    model = keras.Model(inputs, layers.Activation(name)(3.0 * inputs))
    converted = assert_equal(model)
    tf_keras = l0keras.export.bridge.tfmot.import_tf_keras()
    clone = tf_keras.models.clone_model(converted)
    x = np.random.default_rng(2).normal(size=(2, *SEQUENCE)).astype("float32")
    np.testing.assert_array_equal(clone(x), converted(x))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_without_a_layer(name):
    inputs = [keras.Input(SEQUENCE, name=name) for name in "ab"]
    assert_equal(keras.Model(inputs, OPERATIONS[name](*inputs)))


@pytest.mark.parametrize(
    "make",
    [
        f
        for f in networks.ALL
        if f
        not in (
            networks.transformer,
            networks.attention_by_hand,
            networks.fixed_channels,
        )
    ],
)
def test_networks(make):
    assert_equal(make())


def test_initial_states():
    inputs = keras.Input(SEQUENCE)
    _, h, c = layers.LSTM(3, return_state=True)(inputs)
    x = layers.LSTM(3, return_sequences=True)(inputs, initial_state=[h, c])
    assert_equal(keras.Model(inputs, x))


def test_masks():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(4, 3, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)
    x = layers.LSTM(4)(layers.Dropout(0.1)(x))
    data = np.array([[1, 2, 0, 0, 0], [3, 1, 2, 1, 0]], "int32")
    assert_equal(keras.Model(inputs, x), data)


def test_an_operation_that_drops_a_mask_is_refused():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(4, 3, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.LSTM(4)(x + x))
    with pytest.raises(ValueError, match="drops the mask"):
        to_tf_keras(model)


def test_names_are_kept():
    inputs = keras.Input((6,), name="pixels")
    x = layers.Dense(4, name="first")(inputs)
    outputs = [layers.Dense(2, name="class")(x), layers.Dense(1, name="box")(x)]
    converted = assert_equal(keras.Model(inputs, outputs, name="detector"))
    assert converted.name == "detector"
    assert converted.input_names == ["pixels"]
    assert converted.output_names == ["class", "box"]
    assert [x.name for x in converted.layers] == [
        *("pixels", "first", "class", "box")
    ]


def test_nested_inputs_and_outputs():
    inputs = {
        "x": [keras.Input((3,), name="a"), keras.Input((3,), name="b")],
        "y": keras.Input((3,), name="y"),
    }
    first = layers.Dense(2)(inputs["x"][0] + inputs["y"])
    second = layers.Dense(2)(inputs["x"][1])
    assert_equal(keras.Model(inputs, {"p": (first, second), "q": second}))


def test_shared_layers_stay_shared():
    converted = to_tf_keras(networks.shared_layer())
    shared = [x for x in converted.layers if len(x._inbound_nodes) == 2]
    assert [type(x).__name__ for x in shared] == ["Dense"]
    assert len(converted.weights) == len(networks.shared_layer().weights)


def test_a_nested_model_called_without_training():
    inner = keras.Sequential(
        [
            keras.Input(VECTOR),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(3),
        ],
        name="inner",
    )
    inputs = keras.Input(VECTOR)
    x = layers.Dense(4, name="dense")(inner(inputs, training=False))
    model = keras.Model(inputs, x)
    converted = assert_equal(model)
    assert [x.name for x in converted.layers[1:]] == [
        *("batch_normalization", "dropout", "inner_dense", "dense")
    ]


def test_dropout_drops_in_training():
    model = keras.Sequential([keras.Input((100,)), layers.Dropout(0.5)])
    outputs = to_tf_keras(model)(np.ones((1, 100)), training=True).numpy()
    assert 0 < np.sum(outputs == 0) < 100


def test_frozen_layers_stay_frozen():
    model = networks.chain()
    model.layers[1].trainable = False
    converted = to_tf_keras(model)
    for layer, theirs in zip(model.layers, converted.layers, strict=True):
        assert theirs.trainable == layer.trainable
    assert len(converted.trainable_weights) == len(model.trainable_weights)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = networks.residual_before_activation()
    converted = assert_equal(model, tolerance=0.03)
    for layer in converted.layers[1:]:
        if "rescaling" not in layer.name and "add" not in layer.name:
            assert layer.dtype_policy.name == policy


def test_double_precision():
    keras.config.set_dtype_policy("float64")
    inputs = keras.Input(VECTOR)
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    assert assert_equal(model).output.dtype == "float64"


def test_regularizers_and_constraints_come_along():
    inputs = keras.Input(VECTOR)
    dense = layers.Dense(
        3,
        kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2),
        bias_constraint=keras.constraints.MaxNorm(0.5),
        activity_regularizer="l2",
    )
    model = keras.Model(inputs, dense(inputs))
    layer = assert_equal(model).layers[-1]
    kernel = dense.kernel.numpy()
    expected = 0.1 * np.abs(kernel).sum() + 0.2 * np.square(kernel).sum()
    np.testing.assert_allclose(
        layer.kernel_regularizer(layer.kernel), expected, rtol=1e-5
    )
    assert layer.bias_constraint.max_value == 0.5
    assert type(layer.activity_regularizer).__name__ == "L2"


@pytest.mark.parametrize("reason", REFUSED)
def test_what_has_no_equivalent_is_refused(reason):
    shape, make = REFUSED[reason]
    inputs = keras.Input(shape, batch_size=2)
    model = keras.Model(inputs, make()(inputs))
    with pytest.raises(ValueError, match=reason):
        to_tf_keras(model)


def test_all_refusals_are_named_at_once():
    inputs = keras.Input(VECTOR)
    x = layers.RMSNormalization(name="rms")(inputs)
    x = layers.Dense(3, name="plain")(keras.ops.flip(x, 1))
    x = layers.Dense(3, name="tuned", lora_rank=2)(x)
    with pytest.raises(ValueError) as error:
        to_tf_keras(keras.Model(inputs, x))
    assert "'rms' (RMSNormalization)" in str(error.value)
    assert "(Flip)" in str(error.value)
    assert "'tuned' (Dense): tf_keras has no `lora_rank`" in str(error.value)
    assert "plain" not in str(error.value)


def test_an_array_in_an_operation_is_refused():
    inputs = keras.Input(VECTOR)
    model = keras.Model(inputs, inputs + np.arange(6, dtype="float32"))
    with pytest.raises(ValueError, match="is an array and not a number"):
        to_tf_keras(model)


class Doubled(layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


class ReadsValue(layers.Dense):
    def call(self, inputs):
        return keras.ops.matmul(inputs, self.kernel.value)


def test_layers_of_ones_own_are_opened_or_refused():
    inputs = keras.Input(VECTOR)
    assert_equal(keras.Model(inputs, Doubled(3)(inputs)))
    model = keras.Model(inputs, ReadsValue(3)(inputs))
    with pytest.raises(ValueError, match="it is not a layer of Keras"):
        to_tf_keras(model)


def test_gates_are_to_be_stripped_first():
    model = keras.Sequential([keras.Input(VECTOR), l0keras.layers.L0Dense(3)])
    with pytest.raises(ValueError, match=r"l0keras.strip\(model\)"):
        to_tf_keras(model)
    assert_equal(l0keras.strip(model))


@pytest.mark.parametrize("model", [None, keras.Sequential([layers.Dense(3)])])
def test_models_without_a_graph_are_refused(model):
    with pytest.raises(ValueError, match="Argument `model` must be"):
        to_tf_keras(model)


def test_the_callers_model_is_left_alone():
    model = networks.residual()
    weights = model.get_weights()
    config = model.get_config()
    converted = to_tf_keras(model)
    converted.set_weights([0 * w for w in converted.get_weights()])
    assert model.get_config() == config
    for weight, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, before)


@pytest.mark.parametrize(
    "name, size",
    [
        ("MobileNetV2", 32),
        pytest.param("ResNet50", 32, marks=pytest.mark.slow),
        pytest.param("EfficientNetB0", 32, marks=pytest.mark.slow),
        pytest.param("DenseNet121", 32, marks=pytest.mark.slow),
        pytest.param("MobileNetV3Small", 32, marks=pytest.mark.slow),
    ],
)
def test_applications(name, size):
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10
    )
    rng = np.random.default_rng(0)
    # Unlike those of `randomize` these keep a hundred layers from saturating.
    for weight in model.weights:
        if weight.name in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("moving_mean", "beta"):
            weight.assign(0.1 * rng.normal(size=weight.shape))
    x = rng.normal(size=(2, size, size, 3)).astype("float32")
    expected = model(x, training=False).numpy()
    output = to_tf_keras(model)(x, training=False).numpy()
    np.testing.assert_allclose(
        output, expected, rtol=0, atol=1e-6 * np.abs(expected).max()
    )


@pytest.mark.parametrize(
    "indices, axis", [([4, 0, 0], -1), ([-1, 2], 1), ([[0, 1], [2, 3]], 2)]
)
def test_selections(indices, axis):
    inputs = keras.Input((5, 6))
    x = keras.ops.take(layers.Dense(6)(inputs), indices, axis=axis)
    converted = assert_equal(keras.Model(inputs, x))
    # tfmot makes all layers anew from what they say of themselves.
    clone = type(converted).from_config(converted.get_config())
    clone.set_weights(converted.get_weights())
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    np.testing.assert_array_equal(clone(x), converted(x))


def test_selections_of_examples_are_refused():
    inputs = keras.Input(VECTOR)
    model = keras.Model(inputs, keras.ops.take(inputs, [0], axis=0))
    with pytest.raises(ValueError, match="examples out of the batch"):
        to_tf_keras(model)
