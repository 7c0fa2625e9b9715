import numpy as np

from l0keras.graph.graph import unknown


class Rule:
    """How one type of layer makes and reads channels.

    The defaults describe a layer that maps each channel on its own, without
    weights, and positions anyhow: output channel c depends on nothing but
    input channel c. A rule holds no state; all facts are on the node.

    Masks and arrays of constants are over the channels of one `Value`.
    """

    # Whether fewer input channels make the layer's weights smaller, so that
    # a selection in front of it pays.
    shrinks_with_input = False
    # Whether f(z * x) = z * f(x) for z >= 0, channel by channel.
    homogeneous = False

    def refuses(self, node):
        """Why this node has to be a barrier, a string, or `None`."""
        return None

    def output_axis(self, node):
        """The channel axis of the output."""
        return node.input.axis

    # === Forwards: constants ===

    def constants(self, node):
        """The constants of the output's channels, from those of the inputs.

        Returns:
            An array of the size of the output, NaN where a channel is not
            the same number at every position for all inputs.
        """
        return unknown(node.output.size)

    # === Backwards: liveness ===

    def makes(self, node, live):
        """The output channels that the layer makes if `live` are needed.

        A superset of `live`: a softmax, for one, needs all of its units.
        """
        return live

    def reads(self, node, made):
        """The input channels needed to make those: a list, one an input."""
        return [made]

    # === Rebuilding ===

    def creates(self, node):
        """Whether the layer chooses its output channels for itself."""
        return False

    def keeps(self, node):
        """The output channels in the stripped model, ascending integers."""
        if self.creates(node):
            return np.flatnonzero(node.made)
        return node.got()

    def shrink(self, node):
        """The layer on the channels that it gets and keeps.

        Returns:
            A dictionary of changes to the layer's configuration and one of
            its weights by variable name.
        """
        return {}, dict(node.params)

    # === Gate values ===

    def is_homogeneous(self, node):
        """Whether scaling may move from one side of the layer to the other."""
        return self.homogeneous

    def scale_forwards(self, node, scale):
        """What scaling the input by `scale` does to the output's channels."""
        return scale

    def scale_backwards(self, node, scale):
        """The inverse of `scale_forwards`, `None` where there is none."""
        return scale

    def takes_output_scale(self, node):
        """Whether `scale_output` may be called."""
        return False

    def scale_output(self, node, scale):
        """Multiplies the weights so that the output is scaled."""
        raise NotImplementedError

    def takes_input_scale(self, node):
        """Whether `scale_input` may be called."""
        return False

    def scale_input(self, node, scale):
        """Multiplies the weights as if the input were scaled."""
        raise NotImplementedError


class Barrier(Rule):
    """What is assumed of an unknown layer: everything depends on everything."""

    def output_axis(self, node):
        return None

    def reads(self, node, made):
        return [np.ones(value.size, bool) for value in node.inputs]
