"""The multiply-accumulates of a model, and of each of its layers."""

import keras

from l0keras.graph.costs import macs
from l0keras.graph.trace import trace


def count_macs(model: keras.Model) -> int:
    """Counts the multiply-accumulates of one example.

    One for each time that an entry of a kernel is multiplied: a dense layer
    has as many as weights, a convolution as many as weights times output
    positions (borders of same padding included). Biases, normalization,
    activations and pooling do not count. Gated layers count in full, also
    where gates are closed; strip the model to count the rest.

    Counted are Dense, EinsumDense, all convolutions (plain, depthwise,
    separable and transposed), SimpleRNN, LSTM, GRU, ConvLSTM layers and `RNN`
    with the cells of these, attention with heads (projections, scores and
    weighted sums), and these inside `TimeDistributed` and `Bidirectional`.
    Other layers count 0.

    Args:
        model: a built `keras.Model` whose shapes are
            fixed, except for the batch.

    Returns:
        An integer.

    Raises:
        ValueError: `model` has no graph, see `l0keras.strip`, or a layer in
            it has an input of unknown size, or matrices of weights and a
            `call` of its own that could not be opened.

    Example:

    >>> count_macs(keras.applications.VGG16(weights=None))
    15470264320
    """
    return sum(macs_by_layer(model).values())


def macs_by_layer(model: keras.Model) -> dict[str, int]:
    """Counts the multiply-accumulates of one example for each layer.

    Args:
        model: as in `count_macs`.

    Returns:
        A dictionary from layer names to integers, in the order of the graph,
        with the layers that have weights or multiply tensors. A shared layer
        has the sum of its calls.

    Raises:
        ValueError: as `count_macs`.
    """
    return macs_of(trace(model, baked=False).nodes)


def macs_of(nodes):
    """`macs_by_layer` of the nodes of a traced model."""
    counts = {}
    for node in nodes:
        count = macs(node)
        if count or getattr(node.layer, "weights", None):
            counts[node.name] = counts.get(node.name, 0) + count
    return counts
