import keras

from l0keras.graph.graph import Operation
from l0keras.graph.rules.embedding import Reversible
from l0keras.graph.rules.embedding import is_reversed
from l0keras.graph.rules.table import rule_for


def split_reversed(graph):
    """Gives calls of an embedding in reverse an operation of their own.

    What are units of its other calls are inputs there. Both operations know
    each other, and have the same weights.

    Args:
        graph: a `Graph`; it is changed.
    """
    for operation in dict.fromkeys(node.operation for node in graph.nodes):
        if not isinstance(rule_for(type(operation.source)), Reversible):
            continue
        first, *others = map(is_reversed, operation.nodes)
        if first or not any(others):
            continue
        reverse = Operation(
            operation.source, operation.name, baked=operation.baked
        )
        reverse.params = operation.params
        operation.paired, reverse.paired = reverse, operation
        for node in filter(is_reversed, list(operation.nodes)):
            operation.nodes.remove(node)
            reverse.nodes.append(node)
            node.operation = reverse


def find_masks(graph):
    """Finds the masks that only show when a model runs.

    A `ReversibleEmbedding` makes its mask in its `call`, of which Keras knows
    nothing before.
    """
    for node in graph.nodes:
        layer = node.layer
        makes = (
            isinstance(layer, keras.layers.ReversibleEmbedding)
            and layer.mask_zero
            and not is_reversed(node)
        )
        passes = getattr(layer, "supports_masking", False) and any(
            value.masked for value in node.inputs
        )
        for value in node.outputs:
            value.masked = value.masked or makes or passes
