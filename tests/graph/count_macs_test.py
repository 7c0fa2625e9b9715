import keras
import pytest
from keras import layers

import l0keras
from l0keras.graph.count_macs import macs_by_layer
from l0keras.layers import L0Conv2D
from l0keras.layers import L0Dense


def test_macs_of_lenet5():
    lenet5 = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L0Conv2D(20, 5, activation="relu", name="conv1"),
            layers.MaxPooling2D(),
            L0Conv2D(50, 5, activation="relu", name="conv2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            L0Dense(500, activation="relu", name="dense1"),
            L0Dense(10, name="dense2"),
        ]
    )
    assert macs_by_layer(lenet5) == {
        "conv1": 288_000,
        "conv2": 1_600_000,
        "dense1": 400_000,
        "dense2": 5_000,
    }
    assert l0keras.count_macs(lenet5) == 2_293_000


@pytest.mark.parametrize(
    "layer, shape, macs",
    [
        (layers.Dense(5), (3,), 15),
        (layers.Dense(5), (7, 2, 3), 14 * 15),
        (layers.EinsumDense("abc,cde->abde", (7, 4, 5)), (7, 3), 7 * 60),
        (layers.EinsumDense("...x,xy->...y", 5), (7, 3), 7 * 15),
        (layers.Conv1D(4, 3, strides=2), (9, 2), 4 * 3 * 2 * 4),
        (layers.Conv2D(4, 3, padding="same"), (6, 5, 2), 30 * 9 * 2 * 4),
        (layers.Conv2D(4, 3, groups=2), (6, 5, 2), 12 * 9 * 1 * 4),
        (layers.Conv2D(4, 3, dilation_rate=2), (6, 5, 2), 2 * 9 * 2 * 4),
        (layers.Conv3D(2, 2), (3, 3, 3, 2), 8 * 8 * 2 * 2),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 5, 3), 12 * 54),
        (layers.SeparableConv2D(4, 3), (6, 5, 3), 12 * (27 + 12)),
        (layers.Conv2DTranspose(4, 3, strides=2), (6, 5, 2), 30 * 9 * 2 * 4),
        (layers.BatchNormalization(), (6, 5, 2), 0),
        (layers.SimpleRNN(4), (6, 3), 6 * (12 + 16)),
        (layers.LSTM(4), (6, 3), 6 * 4 * (12 + 16)),
        (layers.GRU(4), (6, 3), 6 * 3 * (12 + 16)),
        (layers.Bidirectional(layers.LSTM(4)), (6, 3), 2 * 6 * 112),
        (layers.TimeDistributed(layers.Dense(4)), (6, 5, 3), 6 * 5 * 12),
        (
            layers.TimeDistributed(layers.Conv2D(4, 3)),
            (2, 6, 5, 3),
            2 * 12 * 9 * 3 * 4,
        ),
    ],
)
def test_macs_by_hand(layer, shape, macs):
    model = keras.Sequential([keras.Input(shape), layer])
    assert l0keras.count_macs(model) == macs


def test_macs_of_attention_by_hand():
    query, value = keras.Input((5, 7)), keras.Input((4, 6))
    layer = layers.MultiHeadAttention(2, key_dim=3, value_dim=8)
    model = keras.Model([query, value], layer(query, value))
    projections = 5 * 7 * 6 + 4 * 6 * 6 + 4 * 6 * 16 + 5 * 16 * 7
    scores, sums = 2 * 5 * 4 * 3, 2 * 5 * 4 * 8
    assert l0keras.count_macs(model) == projections + scores + sums
    value = keras.Input((4, 7))
    layer = layers.GroupQueryAttention(3, 4, 2)
    model = keras.Model([query, value], layer(query, value))
    projections = 5 * 7 * 12 + 2 * 4 * 7 * 6 + 5 * 12 * 7
    assert l0keras.count_macs(model) == projections + 2 * 4 * 5 * 4 * 3


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no channels_first convolutions on CPUs",
)
def test_macs_with_channels_first():
    layer = layers.Conv2D(4, 3, data_format="channels_first")
    model = keras.Sequential([keras.Input((2, 6, 5)), layer])
    assert l0keras.count_macs(model) == 12 * 9 * 2 * 4


def test_shared_and_nested_layers_count_at_each_call():
    shared = layers.Dense(3, use_bias=False, name="shared")
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inner(shared(shared(inputs))))
    assert l0keras.count_macs(model) == 9 + 9 + 12
    twice = keras.Model(inputs, [inner(inputs), inner(shared(inputs))])
    assert l0keras.count_macs(twice) == 9 + 12 + 12


def test_unknown_sizes_are_refused_by_name():
    model = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")]
    )
    with pytest.raises(ValueError, match="layer 'conv'"):
        l0keras.count_macs(model)


# VGG16 alone has 553 MB of weights to initialize.
@pytest.mark.parametrize(
    "name, macs",
    [
        pytest.param("VGG16", 15.47e9, marks=pytest.mark.slow),
        pytest.param("ResNet50", 3.86e9, marks=pytest.mark.slow),
        ("MobileNet", 568.7e6),
        ("MobileNetV2", 300.8e6),
    ],
)
def test_published_macs(name, macs):
    model = getattr(keras.applications, name)(weights=None)
    assert l0keras.count_macs(model) == pytest.approx(macs, rel=1e-3)


@pytest.mark.parametrize(
    "product, shapes, macs",
    [
        (keras.ops.matmul, [(4, 5), (5, 3)], 4 * 5 * 3),
        (
            lambda a, b: keras.ops.einsum("bqhd,bkhd->bhqk", a, b),
            [(4, 2, 5), (3, 2, 5)],
            2 * 4 * 3 * 5,
        ),
        (lambda a, b: layers.Dot(2)([a, b]), [(4, 5), (3, 5)], 4 * 3 * 5),
        (lambda a, b: layers.Attention()([a, b]), [(4, 5), (3, 5)], 4 * 3 * 10),
    ],
)
def test_products_of_tensors_count(product, shapes, macs):
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, product(*inputs))
    assert l0keras.count_macs(model) == macs


def test_opened_layers_count():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(8)

        def call(self, x):
            return x + self.inner(x)

    inputs = keras.Input((8,))
    model = keras.Model(inputs, Block()(inputs))
    assert l0keras.count_macs(model) == 64
