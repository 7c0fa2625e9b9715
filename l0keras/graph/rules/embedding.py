import numpy as np

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
        rows = node.params["embeddings"]
        same = np.all(rows == rows[:1], axis=0)
        return np.where(same, rows[0].astype("float64"), np.nan)

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
