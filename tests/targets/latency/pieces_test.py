import keras
import pytest
from keras import layers

from l0keras.graph.analyze import channel_graph
from l0keras.graph.groups import load_shapes
from l0keras.targets.latency.pieces import pieces


class Sort(layers.Layer):
    """Nobody knows where its channels go, or what it is made of."""

    def __init__(self, reverse=False, **kwargs):
        super().__init__(**kwargs)
        self.reverse = reverse

    def call(self, x):
        return keras.ops.sort(x, axis=-1)


def network():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    y = layers.Conv2D(8, 3, padding="same", name="conv1")(x)
    y = layers.Conv2D(8, 3, padding="same", name="conv2")(y)
    x = layers.Add(name="add")([x, y])
    x = layers.ReLU(name="relu2")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2D(8, 1, groups=2, name="grouped")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = Sort(name="sort")(x)
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


@pytest.fixture
def by_name():
    graph = channel_graph(network())
    load_shapes(graph)
    return {piece.head.name: piece for piece in pieces(graph)}


def test_what_is_computed_along_with_a_layer_is_a_piece(by_name):
    names = [[node.name for node in one.nodes] for one in by_name.values()]
    assert names == [
        # Whoever is read twice is the last one.
        ["stem", "norm", "relu"],
        ["conv1"],
        ["conv2"],
        ["add", "relu2"],
        ["depthwise"],
        ["grouped"],
        ["pool"],
        ["sort_sort"],
        ["head"],
    ]


def test_widths_are_those_that_can_be_cut(by_name):
    one_side = [0, 0.25, 0.5, 1]
    given = [(part, 1) for part in one_side]
    made = [(1, part) for part in one_side]
    both = [(a, b) for a in one_side[1:] for b in one_side[1:]]
    expected = {
        # The model's input stays, and so do its outputs.
        "stem": made,
        "head": [(1, 1)],
        "conv1": [(0, 0), *both],
        "conv2": [(0, 0), *both],
        "add": given,
        "depthwise": given,
        "pool": given,
        "grouped": made,
        "sort_sort": [(1, 1)],
    }
    assert {n: piece.widths() for n, piece in by_name.items()} == expected


@pytest.mark.parametrize(
    "name, parts, given, made, params",
    [
        ("stem", (1, 0.5), [(8, 8, 3)], (8, 8, 4), 27 * 4 + 4 + 4 * 4),
        ("conv1", (0.25, 0.5), [(8, 8, 2)], (8, 8, 4), 18 * 4 + 4),
        ("conv1", (0, 0), [(8, 8, 1)], (8, 8, 1), 9 + 1),
        ("add", (0.5, 1), [(8, 8, 4)] * 2, (8, 8, 4), 0),
        ("depthwise", (0.25, 1), [(8, 8, 2)], (6, 6, 2), 18 + 2),
        ("pool", (0, 1), [(6, 6, 1)], (1,), 0),
        ("head", (1, 1), [(8,)], (5,), 45),
    ],
)
def test_models_have_the_widths(by_name, name, parts, given, made, params):
    model = by_name[name].model(parts)
    assert [x.shape[1:] for x in model.inputs] == given
    assert model.outputs[0].shape[1:] == made
    assert model.count_params() == params


def test_a_width_that_a_layer_cannot_have_is_refused(by_name):
    with pytest.raises(ValueError):
        by_name["grouped"].model((1, 0))


def test_keys_tell_apart_what_is_timed_and_nothing_else(by_name):
    conv1, conv2 = by_name["conv1"], by_name["conv2"]
    assert conv1.key((1, 1)) == conv2.key((1, 1))
    assert len({conv1.key(parts) for parts in conv1.widths()}) == 10
    assert by_name["stem"].key((1, 1)) != conv1.key((1, 1))


def twice(x):
    return 2 * x


class Own(layers.Conv2D):
    """Its code may be another one next time."""


@pytest.mark.parametrize(
    "name, change",
    [
        ("get_config", lambda: {"key": object()}),
        ("activation", twice),
        ("__class__", Own),
    ],
)
def test_what_may_be_something_else_has_no_key(by_name, name, change):
    piece = by_name["conv1"]
    assert piece.key((1, 1))
    setattr(piece.head.layer, name, change)
    assert piece.key((1, 1)) is None


@pytest.mark.parametrize("make", [lambda: layers.Dense(2), network])
def test_models_leave_no_trace_in_names(by_name, make):
    def number():
        return int(make().name.rpartition("_")[2])

    make()
    before = number()
    for piece in by_name.values():
        piece.model((1, 1))
    assert number() == before + 1
