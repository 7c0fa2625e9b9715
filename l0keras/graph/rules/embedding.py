import numpy as np
from keras import ops

from l0keras.graph.graph import Value
from l0keras.graph.rules.rule import OtherAxis
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import cannot_read


class Embedding(Rule):
    """`Embedding`: its columns are channels; what it reads are indices."""

    def refuses(self, node):
        return cannot_read(node.layer)

    def channel_inputs(self, node):
        return []

    def output_axis(self, node):
        return node.output.rank - 1

    def sources(self, node):
        return [np.full(node.output.size, -1)]

    def creates(self, node):
        return True

    def constants(self, node):
        return _same_in_all(node.params["embeddings"])

    def reads(self, node, made):
        return [np.ones(node.input.size, bool)]

    def shrink(self, node):
        kept = np.flatnonzero(node.made)
        rows = node.params["embeddings"][:, kept]
        return {"output_dim": len(kept)}, {"embeddings": rows}

    def weights(self, node):
        rows, columns = node.params["embeddings"].shape
        return [(rows, [(-1, np.arange(columns))])]

    def takes_output_scale(self, node):
        return True

    def scale_output(self, node, scale):
        node.params["embeddings"] = node.params["embeddings"] * scale


class _Reverse(Rule):
    """The calls of a `ReversibleEmbedding` that use it the other way round.

    Its columns are inputs, its rows outputs, which all stay.
    """

    with_arguments = True
    shrinks_with_input = True

    def refuses(self, node):
        reason = cannot_read(node.layer)
        if reason:
            return reason
        if node.operation.paired is None:
            return "called in reverse where its own units are not made before"
        if node.input.axis != node.input.rank - 1:
            return OtherAxis("reads along another axis than its channels")
        return None

    def output_axis(self, node):
        return node.output.rank - 1

    def sources(self, node):
        return [np.full(node.output.size, -1)]

    def reads_gated(self, node, position):
        return True

    def reads(self, node, made):
        rows = node.params.get("reverse_embeddings")
        columns = node.params["embeddings"] if rows is None else rows.T
        return [np.any(columns != 0, axis=0) & (node.constants() != 0)]

    def call(self, node, layer, args, kwargs):
        """It reads all units that the layer has left, 0 for those it lacks."""
        makers = [n for n in node.operation.paired.nodes if n.alive]
        # Where nobody makes units the layer was copied as it is.
        units = np.arange(node.input.size)
        if makers:
            units = np.flatnonzero(makers[0].made)
        got = node.got()
        if np.array_equal(got, units):
            return layer(*args, **kwargs)
        x, *others = args
        known = np.isin(units, got[node.reads[0][got]])
        place = np.where(known, np.searchsorted(got, units), len(got))
        if not np.all(known):
            x = ops.concatenate([x, ops.zeros_like(x[..., :1])], axis=-1)
        return layer(ops.take(x, place.tolist(), axis=-1), *others, **kwargs)

    def weights(self, node):
        if node.layer.tie_weights:
            return []
        rows, columns = node.params["reverse_embeddings"].shape
        return [(columns, [(0, np.arange(rows))])]

    def takes_input_scale(self, node):
        return not node.layer.tie_weights

    def scale_input(self, node, scale):
        rows = node.params["reverse_embeddings"]
        node.params["reverse_embeddings"] = rows * scale[:, None]


class Reversible(Embedding):
    """`ReversibleEmbedding`, which keeps the units that it has to read."""

    with_arguments = True
    alternatives = (_Reverse(),)

    def refuses(self, node):
        if is_reversed(node):
            return "called in reverse"
        return super().refuses(node)

    def makes(self, node, live):
        pair = node.operation.paired
        for other in pair.nodes if pair else ():
            live = live | other.rule.reads(other, other.made)[0]
        return live

    def shrink(self, node):
        config, params = super().shrink(node)
        if "reverse_embeddings" in node.params:
            kept = np.flatnonzero(node.made)
            rows = node.params["reverse_embeddings"][kept]
            params["reverse_embeddings"] = rows
        return config, params

    def weights(self, node):
        alone = node.operation.paired is None
        tables = 2 if alone and not node.layer.tie_weights else 1
        return tables * super().weights(node)

    def takes_output_scale(self, node):
        # In reverse it would scale, too.
        return node.operation.paired is None or not node.layer.tie_weights


def is_reversed(node):
    """Whether a `ReversibleEmbedding` is called with `reverse=True`."""
    return len(node.args) > 1 or bool(node.kwargs.get("reverse"))


class PositionEmbedding(Rule):
    """`PositionEmbedding` of KerasHub: a row for each position.

    Of its input it takes the shape alone, so that it has the channels that
    are there.
    """

    inputs = None
    with_arguments = True
    shrinks_with_input = True

    def refuses(self, node):
        if not node.args or not isinstance(node.args[0], Value):
            return "called with its input by name"
        if node.input.axis != node.input.rank - 1:
            return OtherAxis("makes its channels along another axis")
        return None

    def channel_inputs(self, node):
        # Not those that say which positions.
        return [0]

    def sources(self, node):
        none = np.full(node.output.size, -1)
        return [np.arange(node.output.size), *(none for _ in node.inputs[1:])]

    def reads(self, node, made):
        return [made, *(np.ones(v.size, bool) for v in node.inputs[1:])]

    def constants(self, node):
        return _same_in_all(node.params["embeddings"])

    def shrink(self, node):
        return {}, {"embeddings": node.params["embeddings"][:, node.got()]}

    def weights(self, node):
        rows, columns = node.params["embeddings"].shape
        return [(rows, [(-1, np.arange(columns))])]

    def takes_output_scale(self, node):
        return True

    def scale_output(self, node, scale):
        node.params["embeddings"] = node.params["embeddings"] * scale


def _same_in_all(rows):
    """The number of each column, NaN where the rows differ."""
    same = np.all(rows == rows[:1], axis=0)
    return np.where(same, rows[0].astype("float64"), np.nan)
