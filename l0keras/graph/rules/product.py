import keras
import numpy as np

from l0keras.graph.graph import unknown
from l0keras.graph.rules.rule import Rule


class _Product(Rule):
    """Products of two tensors, summed over axes, such as `ops.matmul`.

    Args:
        labels: a function from a node to a label for each axis of the first
            input, the second one and the output: three lists. As in
            `ops.einsum`, axes of the same label are one.
    """

    inputs = None
    with_arguments = True
    per_call = True

    def __init__(self, labels):
        self._labels_of = labels

    def labels(self, node):
        """The labels of the two inputs and the output, `None` for others."""
        operands = keras.tree.flatten((node.args, node.kwargs))
        operands = [x for x in operands if x is not None]
        if len(operands) != 2 or len(node.inputs) != 2:
            return None
        if any(value.rank < 2 for value in node.inputs):
            return None
        return self._labels_of(node)

    def multiplied(self, node):
        return [(-1, np.arange(node.output.size))]

    def channels(self, node):
        """The labels of the channels of both inputs."""
        return [
            own[value.axis]
            for own, value in zip(self.labels(node), node.inputs)
        ]

    def refuses(self, node):
        labels = self.labels(node)
        if labels is None:
            return "multiplies other than two tensors with channels"
        if any(len(set(own)) < len(own) for own in labels):
            return "takes a diagonal"
        if not labels[2] or len({own[0] for own in labels}) > 1:
            return "multiplies the examples of a batch with each other"
        return self._refuses(node)

    def _unlike(self, node):
        """Why the channels of both are not the same axis, or `None`."""
        one, other = node.inputs
        if len(set(self.channels(node))) > 1 or one.size != other.size:
            return "sums over channels and multiplies them with positions"
        if not all(value.selectable for value in node.inputs):
            return "multiplies tensors that carry a mask or are sparse"
        return None


class _Summed(_Product):
    """The channels of both are multiplied and summed, as of q in q @ k^T.

    What is left are positions.
    """

    shrinks_with_input = True

    def _refuses(self, node):
        if self.channels(node)[0] in self.labels(node)[2]:
            return "multiplies channels with positions"
        return self._unlike(node)

    def output_axis(self, node):
        return node.output.axis

    def sources(self, node):
        return [np.full(node.output.size, -1)] * 2

    def constants(self, node):
        size = node.output.size
        return np.zeros(size) if np.all(_zero(node)) else unknown(size)

    def reads(self, node, made):
        # Where tensors are divided by their norms, all that is in these is
        # needed too.
        normalized = getattr(node.layer, "normalize", False)
        needed = ~_zero(node, np.all if normalized else np.any)
        # The same one of both, if all could go.
        needed[0] |= not np.any(needed)
        return [needed, needed.copy()]

    def multiplied(self, node):
        return [(0, np.arange(node.input.size))]

    def takes_whole_sets(self, node):
        return True

    def ties(self, node):
        channels = np.arange(node.input.size)
        return [(0, channels, 1, channels)]

    def reads_gated(self, node, position):
        return True


class _Alike(_Product):
    """The channels of both are multiplied but not summed, each on its own."""

    aligns = True

    def _refuses(self, node):
        reason = self._unlike(node)
        if reason or self.channels(node)[0] in self.labels(node)[2]:
            return reason
        return "sums over the channels of both"

    def output_axis(self, node):
        return self.labels(node)[2].index(self.channels(node)[0])

    def constants(self, node):
        return np.where(_zero(node), 0.0, np.nan)


def _zero(node, of=np.any):
    """Which channels are 0 in any of both inputs, or in all."""
    return of([value.constants == 0 for value in node.inputs], axis=0)


class Product(_Product):
    """The channels of one pass, as those of v in softmax(q @ k^T) @ v.

    The other tensor is taken whole.
    """

    def __init__(self, labels):
        super().__init__(labels)
        self.alternatives = _Summed(labels), _Alike(labels)

    def _passed(self, node):
        """The input whose channels the output has, and along which axis.

        `None` if there is none. Of two it is the one that comes last.
        """
        output = self.labels(node)[2]
        others = self.labels(node)[1::-1]
        return max(
            (
                (output.index(own), position)
                for position, own in enumerate(self.channels(node))
                if own in output and own not in others[position]
            ),
            default=None,
        )

    def _refuses(self, node):
        return None if self._passed(node) else "multiplies both"

    def channel_inputs(self, node):
        if self.labels(node) is None or self._passed(node) is None:
            return super().channel_inputs(node)
        return [self._passed(node)[1]]

    def output_axis(self, node):
        return self._passed(node)[0]

    def sources(self, node):
        _, passed = self._passed(node)
        size = node.output.size
        return [
            np.arange(size) if position == passed else np.full(size, -1)
            for position in range(2)
        ]

    def constants(self, node):
        constants = node.inputs[self._passed(node)[1]].constants
        return np.where(constants == 0, 0.0, np.nan)

    def reads(self, node, made):
        _, passed = self._passed(node)
        return [
            made if position == passed else np.ones(value.size, bool)
            for position, value in enumerate(node.inputs)
        ]


class OfBatches(Rule):
    """Products that take the batch for any axis, such as `ops.inner`."""

    inputs = None
    with_arguments = True

    def refuses(self, node):
        if len(node.inputs) < 2:
            return "multiplies by an array"
        return "multiplies the examples of a batch with each other"


# === Labels ===


def matmul(node):
    """Of `ops.matmul`: the last axes; those before broadcast."""
    one, other = (list(range(-value.rank, 0)) for value in node.inputs)
    output = list(range(-node.output.rank, 0))
    one[-1] = other[-2] = "summed"
    return one, other, output


def einsum(node):
    """Of `ops.einsum` with an arrow."""
    left, arrow, output = node.layer.subscripts.replace(" ", "").partition("->")
    if not arrow:
        # Then only axes of one input are in the output, not the batch.
        return None
    values = [*node.inputs, node.output]
    return [
        _spread(term, value.rank)
        for term, value in zip([*left.split(","), output], values, strict=True)
    ]


def _spread(term, rank):
    """The labels of a term, those of an ellipsis counted from its end."""
    before, _, behind = term.partition("...")
    count = rank - len(before) - len(behind)
    return [*before, *range(-count, 0), *behind]


def dot(node):
    """Of the layer `Dot`: one axis of each is summed over."""
    axes = node.layer.axes
    axes = [axes, axes] if isinstance(axes, int) else axes
    labels = []
    for number, (axis, value) in enumerate(zip(axes, node.inputs)):
        own = ["batch", *((number, i) for i in range(1, value.rank))]
        own[axis] = "summed"
        labels.append(own)
    one, other = labels
    output = [x for x in one + other[1:] if x != "summed"]
    # Keras gives single numbers an axis.
    return one, other, output + ["number"] * (len(output) == 1)
