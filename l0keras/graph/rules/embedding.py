import numpy as np

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


class Reversible(Embedding):
    """`ReversibleEmbedding` that no call uses in reverse."""

    with_arguments = True

    def refuses(self, node):
        if any(_is_reversed(other) for other in node.operation.nodes):
            return (
                "is called in reverse, where its columns are inputs and "
                "its rows are outputs"
            )
        return super().refuses(node)

    def shrink(self, node):
        config, params = super().shrink(node)
        if "reverse_embeddings" in node.params:
            kept = np.flatnonzero(node.made)
            rows = node.params["reverse_embeddings"][kept]
            params["reverse_embeddings"] = rows
        return config, params

    def weights(self, node):
        tables = 1 if node.layer.tie_weights else 2
        return tables * super().weights(node)


def _is_reversed(node):
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
