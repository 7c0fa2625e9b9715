import keras
import numpy as np
import pytest
from keras import layers

from l0keras.graph import channel_graph
from l0keras.graph.analyze import find_rules
from l0keras.graph.graph import Value
from l0keras.graph.trace import trace
from l0keras.stripping.constants import load_params
from l0keras.stripping.constants import propagate_constants
from l0keras.stripping.kept import choose_kept
from l0keras.stripping.live import find_live
from tests.stripping.random_graph import random_graph
from tests.stripping.random_graph import random_inputs

to_numpy = keras.ops.convert_to_numpy


def constants_of(model):
    graph = trace(model)
    find_rules(graph)
    load_params(graph)
    propagate_constants(graph)
    return graph


@pytest.mark.filterwarnings("ignore:You are using a softmax")
@pytest.mark.parametrize("start", range(0, 40, 10))
def test_constants_are_what_the_model_computes(start):
    for seed in range(start, start + 10):
        check_constants(*random_graph(seed))


def check_constants(model, rng):
    graph = constants_of(model)
    arrays = computed(graph, random_inputs(model, rng, scale=3.0))
    for value in graph.values:
        known = ~np.isnan(value.constants)
        array = arrays[id(value)]
        if not np.any(known):
            continue
        array = np.moveaxis(array, value.axis, -1)
        array = array.reshape(-1, value.size)[:, known]
        expected = np.broadcast_to(value.constants[known], array.shape)
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-5)


def computed(graph, inputs):
    """What each value of a graph is, by calling one layer after the other."""
    arrays = {
        id(value): array
        for value, array in zip(
            keras.tree.flatten(graph.inputs), keras.tree.flatten(inputs)
        )
    }
    for node in graph.nodes:
        args, kwargs = keras.tree.map_structure(
            lambda x: arrays[id(x)] if isinstance(x, Value) else x,
            (node.args, node.kwargs),
        )
        outputs = keras.tree.flatten(node.layer(*args, **kwargs))
        for value, output in zip(node.outputs, outputs, strict=True):
            arrays[id(value)] = to_numpy(output)
    return arrays


def chain(*rest, shape=(6, 6, 2)):
    """What a closed map with bias 2 and one with bias -1 turn into."""
    conv = layers.Conv2D(3, 3, name="maker")
    model = keras.Sequential([keras.Input(shape), conv, *rest])
    kernel = np.ones((3, 3, 2, 3))
    kernel[..., 1:] = 0.0
    conv.set_weights([kernel, np.array([0.5, 2.0, -1.0])])
    return constants_of(model).nodes[-1].output.constants


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.parametrize(
    "rest, expected",
    [
        ([], [2.0, -1.0]),
        ([layers.ReLU()], [2.0, 0.0]),
        ([layers.LeakyReLU(0.5)], [2.0, -0.5]),
        ([layers.Activation("sigmoid")], [sigmoid(2.0), sigmoid(-1.0)]),
        ([layers.Rescaling(3.0, 1.0)], [7.0, -2.0]),
        ([layers.Rescaling([1.0, 2.0, 3.0])], [4.0, -3.0]),
        ([layers.BatchNormalization(epsilon=0.0)], [2.0, -1.0]),
        ([layers.MaxPooling2D(padding="same")], [2.0, -1.0]),
        ([layers.AveragePooling2D(3, padding="same")], [2.0, -1.0]),
        ([layers.GlobalAveragePooling2D()], [2.0, -1.0]),
        ([layers.ZeroPadding2D()], [np.nan, np.nan]),
        ([layers.ReLU(), layers.ZeroPadding2D()], [np.nan, 0.0]),
        ([layers.Cropping2D()], [2.0, -1.0]),
        ([layers.UpSampling2D()], [2.0, -1.0]),
        ([layers.UpSampling2D(interpolation="bicubic")], [np.nan, np.nan]),
        ([layers.Dropout(0.5)], [2.0, -1.0]),
        ([layers.Softmax()], [np.nan, np.nan]),
        ([layers.PReLU("ones")], [2.0, -1.0]),
        ([layers.PReLU("random_normal")], [2.0, np.nan]),
    ],
)
def test_constants_by_hand(rest, expected):
    constants = chain(*rest)
    assert np.isnan(constants[0])
    np.testing.assert_allclose(constants[1:], expected, rtol=1e-6)


def test_flatten_spreads_constants_over_positions():
    constants = chain(layers.Flatten())
    np.testing.assert_array_equal(
        constants.reshape(16, 3), np.tile([np.nan, 2.0, -1.0], (16, 1))
    )


@pytest.mark.parametrize(
    "reader, expected",
    [
        (layers.Conv2D(2, 1), [True, False, False]),
        (layers.Conv2D(2, 3, padding="same"), [True, True, True]),
        (layers.Dense(2), [True, False, False]),
        (layers.DepthwiseConv2D(3), [True, True, True]),
        (layers.LayerNormalization(), [True, True, True]),
    ],
)
def test_who_needs_constant_channels(reader, expected):
    conv = layers.Conv2D(3, 3, name="maker")
    model = keras.Sequential([keras.Input((6, 6, 2)), conv, reader])
    kernel = np.ones((3, 3, 2, 3))
    kernel[..., 1:] = 0.0
    conv.set_weights([kernel, np.array([0.5, 2.0, -1.0])])
    graph = constants_of(model)
    find_live(graph)
    np.testing.assert_array_equal(graph.nodes[0].output.live, expected)


def test_selection_in_front_of_what_shrinks():
    """Batch norm is cut before the dense layer: both need 2 of 5 inputs."""
    dense = layers.Dense(3)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Rescaling(2.0),
            layers.BatchNormalization(),
            dense,
        ]
    )
    kernel = np.zeros((5, 3))
    kernel[[1, 4]] = 1.0
    dense.set_weights([kernel, np.zeros(3)])
    graph = constants_of(model)
    find_live(graph)
    choose_kept(graph)
    rescaling, norm, last = graph.nodes
    assert rescaling.takes == [None]
    np.testing.assert_array_equal(norm.takes[0], [1, 4])
    assert last.takes == [None]
    np.testing.assert_array_equal(last.got(), [1, 4])


def test_a_graph_prints_who_makes_and_reads_what():
    inputs = keras.Input((4,), name="x")
    a = layers.Dense(3, name="a")(inputs)
    b = layers.Softmax(name="b")(a)
    outputs = layers.Add(name="sum")([a, b])
    graph = channel_graph(keras.Model(inputs, outputs))
    assert str(graph).splitlines() == [
        "'x' (Input): 4 channels, read by 'a'",
        "'a' (Dense): 3 channels, read by 'b', 'sum'",
        "'b' (Softmax): 3 channels, read by 'sum'",
        "  kept as it is: each of its channels depends on all channels",
        "'sum' (Add): 3 channels, read by the outputs",
    ]
