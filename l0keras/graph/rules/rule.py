import numpy as np

from l0keras.graph.graph import unknown


class OtherAxis(str):
    """A reason to refuse: the channels do not lie where the layer has them.

    The layer has a rule again where the node that moved the channels is a
    barrier.
    """


class Rule:
    """How one type of layer or op makes and reads channels.

    The defaults describe a layer without weights that maps each channel on
    its own: output channel c depends on channel c of each input alone, at any
    positions. A rule holds no state; all facts are on the node.

    Masks and arrays of constants are over the channels of one `Value`. To
    describe a layer, override what differs; most need `sources`, `constants`
    and, with weights, `shrink` and `weights`. See
    `l0keras.register_channel_rule` for an example.
    """

    # How many inputs it takes, `None` for any number.
    inputs = 1
    # Whether it may have several outputs, see `parts`.
    several_outputs = False
    # Whether calls may have further arguments than tensors.
    with_arguments = False
    # Whether it does the same in training.
    ignores_training = False
    # Rules to ask where this one refuses a call.
    alternatives = ()
    # Whether several calls may differ: no weights, no sizes in the config.
    per_call = False
    # Whether all inputs have to deliver the same channels.
    aligns = False
    # Whether the call may leave out an input that it does not read.
    optional_inputs = False
    # Whether its width, if it chooses or aligns it, may be rounded up, see
    # `strip(round_to=...)`.
    rounds = True
    # Whether fewer input channels make the layer's weights smaller, so that
    # a selection in front of it pays.
    shrinks_with_input = False
    # Whether f(z * x) = z * f(x) for z >= 0, channel by channel.
    homogeneous = False

    def refuses(self, node):
        """Why this node has to be a barrier, a string, or `None`."""
        return None

    def channel_inputs(self, node):
        """The positions of the inputs whose channels it tells apart.

        It takes the others, such as masks, whole, of whatever size.
        """
        return range(len(node.inputs))

    def output_axis(self, node):
        """The channel axis of the output."""
        return node.input.axis

    def parts(self, node):
        """Which channels of the first output each output has.

        All other questions about channels of the output are about those of
        the first, which has all of them.

        Returns:
            An integer array for each output, without duplicates.
        """
        return [np.arange(node.output.size)] * len(node.outputs)

    def sources(self, node):
        """Which input channels an output channel is made of.

        Returns:
            For each input an integer array of the output's size: the channel
            of that input that the output channel depends on, -1 for none.
        """
        return [
            np.arange(node.output.size)
            if value.size > 1
            else np.zeros(node.output.size, int)
            for value in node.inputs
        ]

    # === Forwards: constants ===

    def constants(self, node):
        """The constants of the output's channels, from those of the inputs.

        Returns:
            An array of the size of the output, NaN where a channel is not
            the same number at every position for all inputs.
        """
        return unknown(node.output.size)

    def affine(self, node):
        """What the node does to its only input that is not constant.

        Returns:
            `None`, or the position of that input and the scale and the offset
            of each channel that the node applies to it. It must not change
            the shape.
        """
        return None

    # === Backwards: liveness ===

    def makes(self, node, live):
        """The output channels that the layer makes if `live` are needed.

        A superset of `live`: a softmax, for one, needs all of its units.
        """
        return live

    def reads(self, node, made):
        """The input channels needed to make those: a list, one an input."""
        masks = []
        for value, source in zip(node.inputs, self.sources(node), strict=True):
            mask = np.zeros(value.size, bool)
            mask[source[made & (source >= 0)]] = True
            masks.append(mask)
        return masks

    def silence(self, node, units):
        """Makes units that nobody needs constant, so that they read nothing.

        Args:
            node: the `Node`; its weights may be changed.
            units: a bool mask of output channels.

        Returns:
            Whether it could.
        """
        return False

    # === Rebuilding ===

    def takes_whole_sets(self, node):
        """Whether it cannot be given other channels than it reads.

        Such as a layer with groups. All others may be given channels that
        nobody needs, and then have to ignore them.
        """
        return False

    def creates(self, node):
        """Whether the layer chooses its output channels for itself."""
        return False

    def keeps(self, node):
        """The output channels in the stripped model, ascending integers."""
        if self.creates(node):
            return np.flatnonzero(node.made)
        kept = np.ones(node.output.size, bool)
        for position, source in enumerate(self.sources(node)):
            kept &= (source < 0) | np.isin(source, node.got(position))
        return np.flatnonzero(kept)

    def shrink(self, node):
        """The layer on the channels that it gets and keeps.

        Returns:
            A dictionary of changes to the layer's configuration and one of
            its weights by name.
        """
        return {}, dict(node.params)

    def call(self, node, layer, args, kwargs):
        """Calls the new layer; inputs that were left out are `None`."""
        return layer(*args, **kwargs)

    # === What can be cut together ===

    def ties(self, node):
        """Which channels can only be cut together.

        Returns:
            A list of `(position, channels, position, channels)`, where -1
            stands for the output and the integer arrays are of equal length:
            each channel of the one is tied to that of the other.
        """
        ties = []
        for position, source in enumerate(self.sources(node)):
            if self._serves_all(node, position):
                continue
            made = np.flatnonzero(source >= 0)
            ties.append((-1, made, position, source[made]))
        return ties

    def starts_channels(self, node):
        """Whether it makes channels of its own, from any of its inputs."""
        return self.creates(node) and all(
            np.all(source < 0) for source in self.sources(node)
        )

    def reads_gated(self, node, position):
        """Whether gates of an input's channels stand in front of it.

        That is where the channels end, and where all of them enter into each
        number, so that behind it gates would come too late.
        """
        return self.starts_channels(node)

    def pins(self, node):
        """Which input channels have to stay: a list of bool masks."""
        known = self.channel_inputs(node)
        return [
            np.full(
                value.size,
                position not in known or self._serves_all(node, position),
            )
            for position, value in enumerate(node.inputs)
        ]

    def _serves_all(self, node, position):
        """Whether an input's one channel is merged with all of the others."""
        return (
            self.aligns and node.inputs[position].size == 1 < node.output.size
        )

    # === What a channel costs ===

    def weights(self, node):
        """The weight arrays of the layer, by what their axes stand for.

        Returns:
            A list of `(count, axes)`. An axis is a pair of the position of an
            input, -1 for the output, and an integer array: the channel there
            that each index along the axis belongs to. The array has `count`
            weights for each combination of indices.
        """
        return []

    def multiplied(self, node):
        """For a product of tensors: the axes that its count grows with.

        Returns:
            A list of pairs, as the axes in `weights`.
        """
        return []

    def output_weights(self, node):
        """The weights that make, scale or shift each channel of the output.

        With all of a channel's at 0 it is the same number for any input. By
        default they are those that `scale_output` multiplies.

        Args:
            node: the `Node`; its weights are changed.

        Returns:
            By their names, integer arrays that broadcast to the weights: the
            channel of each, or -1.
        """
        names = list(node.params)
        if any("lora" in name for name in names):
            # The product of two matrices is added to what is scaled.
            return {}
        for name in names:
            node.params[name] = np.ones(node.params[name].shape)
        try:
            # Of 1, another factor for each channel makes its number.
            self.scale_output(node, np.arange(node.output.size) + 2.0)
        except NotImplementedError:
            return {}
        channels = {
            name: _smallest(node.params[name].astype(int) - 2) for name in names
        }
        return {name: c for name, c in channels.items() if np.any(c >= 0)}

    # === Gate values ===

    def is_homogeneous(self, node):
        """Whether scaling may move from one side of the layer to the other."""
        return self.homogeneous

    def scale_forwards(self, node, scale):
        """What scaling the input by `scale` does to the output's channels.

        `None` if it does not scale each of them by one number.
        """
        return scale[self.sources(node)[0]]

    def scale_backwards(self, node, scale):
        """The inverse of `scale_forwards`, `None` where there is none."""
        inner = np.ones(node.input.size)
        inner[self.sources(node)[0]] = scale
        same = np.array_equal(self.scale_forwards(node, inner), scale)
        return inner if same else None

    def channel_scale(self, node):
        """The factors of a layer that only scales channels, or `None`."""
        return None

    def takes_output_scale(self, node):
        """Whether `scale_output` may be called."""
        return False

    def scale_output(self, node, scale):
        """Multiplies the weights so that the output is scaled."""
        raise NotImplementedError

    def takes_input_scale(self, node):
        """Whether `scale_input` may be called, for the first input."""
        return False

    def scale_input(self, node, scale):
        """Multiplies the weights as if the first input were scaled."""
        raise NotImplementedError

    # === Constants ===

    def takes_joined_inputs(self, node):
        """Whether `join_inputs` may be called."""
        return False

    def join_inputs(self, node, first, factors):
        """Reads one input channel in the place of multiples of it.

        Args:
            node: the `Node`; its weights are changed.
            first: the channel, an integer.
            factors: an array of the size of the input: how many times `first`
                a channel is that is not to be read any more, 0 for all others.
        """
        raise NotImplementedError


def _smallest(array):
    """The smallest array that broadcasts to a given one."""
    for axis, size in enumerate(array.shape):
        first = array.take([0], axis)
        if size > 1 and np.array_equal(
            np.broadcast_to(first, array.shape), array
        ):
            array = first
    return array


class Barrier(Rule):
    """What is assumed of an unknown layer: everything depends on everything."""

    per_call = True

    def output_axis(self, node):
        return None

    def pins(self, node):
        return [np.ones(value.size, bool) for value in node.inputs]

    def makes(self, node, live):
        return np.ones(0, bool)

    def reads(self, node, made):
        return [np.ones(value.size, bool) for value in node.inputs]


def cannot_read(layer):
    """Why the weights of a layer are not what their names say, or `None`.

    Those of LoRA beside them do not matter: `bake` merges them.
    """
    for inside in layer._flatten_layers():
        mode = getattr(inside, "quantization_mode", None)
        if mode:
            return f"quantized to {mode}; cut first and quantize what is left"
    return None


def channel_axis(layer, value):
    """The axis in which a layer expects its channels."""
    if getattr(layer, "data_format", None) == "channels_first":
        return 1
    return value.rank - 1


def times(array, scale):
    """A product that takes no more memory than the array."""
    return np.multiply(array, scale, dtype=array.dtype, casting="same_kind")


def take(array, positions, axis):
    """Some positions of an axis, of an array that is not copied for all."""
    if np.array_equal(positions, np.arange(array.shape[axis])):
        return array
    return np.take(array, positions, axis)


def axes_of(node, axis):
    """An axis, or several, as a set of integers from 0 on."""
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return {one % node.input.rank for one in axes}


def along(value, array):
    """Shapes one number a channel so that it broadcasts over the tensor."""
    shape = [1] * value.rank
    shape[value.axis] = -1
    return array.reshape(shape)


def per_channel(value, array):
    """One number a channel out of an array over positions and channels.

    NaN where it is not the same at all positions.
    """
    array = np.moveaxis(array, value.axis, -1).reshape(-1, value.size)
    same = np.all(array == array[:1], axis=0)
    return np.where(same, array[0], np.nan)
