import keras
import numpy as np
import pytest
from keras import layers

from l0keras.graph.analyze import channel_graph
from l0keras.graph.groups import load_shapes
from l0keras.targets.latency.fit import fit
from l0keras.targets.latency.pieces import channels
from l0keras.targets.latency.pieces import pieces


def piece_of(layer, shape, free=True):
    """The piece of a layer of which nothing has to stay."""
    inputs = keras.Input(shape)
    x = layers.Dense(8)(inputs)
    x = layer(x)
    x = layers.Dense(3)(x) if free else x
    graph = channel_graph(keras.Model(inputs, x))
    load_shapes(graph)
    return pieces(graph)[1]


def predicted(arrays, node, given, made):
    """The sum of arrays where some channels are left."""
    sizes = {-1: made / node.output.size, 0: given / node.input.size}
    return sum(
        count * np.prod([len(i) * sizes[position] for position, i in axes])
        for count, axes in arrays(node)
    )


def test_a_kernel_has_four_numbers():
    piece = piece_of(layers.Dense(16), (4,))
    wanted = {
        parts: 3 + 0.5 * n_in + 0.25 * n_out + 0.125 * n_in * n_out
        for parts in piece.widths()
        for n_in, n_out in [(channels(8, parts[0]), channels(16, parts[1]))]
    }
    arrays = fit(piece, wanted, overhead=1.0)
    for n_in, n_out in ((8, 16), (3, 5), (1, 1)):
        exact = 3 + 0.5 * n_in + 0.25 * n_out + 0.125 * n_in * n_out
        found = predicted(arrays, piece.head, n_in, n_out)
        assert found == pytest.approx(exact)


def test_what_passes_channels_on_has_two():
    piece = piece_of(layers.DepthwiseConv1D(3), (5, 4))
    wanted = {p: 2 + 0.5 * channels(8, p[0]) for p in piece.widths()}
    arrays = fit(piece, wanted, overhead=1.0)
    counts = {tuple(len(i) for _, i in a): c for c, a in arrays(piece.head)}
    assert counts == pytest.approx({(): 2, (8,): 0.5})


def test_recurrent_layers_grow_with_the_square_of_their_units():
    piece = piece_of(layers.LSTM(16), (5, 4))
    wanted = {
        p: 1 + 0.25 * channels(16, p[1]) ** 2 + channels(8, p[0])
        for p in piece.widths()
    }
    arrays = fit(piece, wanted, overhead=1.0)
    found = predicted(arrays, piece.head, 4, 8)
    assert found == pytest.approx(1 + 0.25 * 8**2 + 4)


def test_counts_are_never_negative_and_relative_differences_count():
    piece = piece_of(layers.Dense(16), (4,))
    wanted = {p: 100 - 50 * p[0] + 50 * p[1] for p in piece.widths()}
    arrays = fit(piece, wanted, overhead=1.0)(piece.head)
    assert arrays and all(count > 0 for count, _ in arrays)


def test_one_width_alone_is_spread_over_what_is_computed():
    piece = piece_of(layers.EinsumDense("abc,cd->abd", (5, 6)), (5, 4))
    arrays = fit(piece, {(1, 1): 12.0}, overhead=1.0)
    ((count, axes),) = arrays(piece.head)
    assert count * 8 * 6 == pytest.approx(12)
    assert [(p, len(i)) for p, i in axes] == [(0, 8), (-1, 6)]


def test_what_was_not_measured_adds_nothing():
    piece = piece_of(layers.Dense(16), (4,))
    arrays = fit(piece, {(0.5, 0.5): 12.0}, overhead=1.0)
    assert predicted(arrays, piece.head, 8, 16) == 0
