from l0keras.targets.latency.fit import fit
from l0keras.targets.latency.measure import measure
from l0keras.targets.latency.pieces import pieces


def latency_arrays(graph, quantization=None, progress=None):
    """Finds what each layer adds to the time of one example, on one thread.

    Args:
        graph: the channel graph of a model with fixed shapes, with the shapes
            of its weights.
        quantization: as in `export_tflite`.
        progress: as in `measure`.

    Returns:
        The microseconds of a file with next to nothing in it, and a function
        of a node, of this graph or of that of a model made from this one,
        that returns a list of `(count, axes)` of `Rule.weights`, in
        microseconds. A layer behind another one that LiteRT computes along
        with it adds nothing of its own.
    """
    found = pieces(graph)
    overhead, times = measure(found, quantization, progress)
    fits = {
        _call(piece.head): fit(piece, own, overhead)
        for piece, own in zip(found, times, strict=True)
    }

    def arrays(node):
        own = fits.get(_call(node))
        return own(node) if own else []

    return overhead, arrays


def check_shapes(graph):
    """Raises a `ValueError` if sizes but that of the batch are not fixed."""
    for value in graph.values:
        if None in value.shape[1:]:
            place = value.producer.name if value.producer else "the input"
            raise ValueError(
                "Argument `model` must have fixed shapes, except for the "
                f"batch, for latencies. Received: shape {value.shape} at "
                f"{place!r}"
            )


def _call(node):
    """What a call of a layer is called in all models with that layer."""
    return node.name, node.operation.nodes.index(node)
