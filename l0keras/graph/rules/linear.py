import numpy as np

from l0keras import activations
from l0keras.graph.rules.rule import OtherAxis
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import cannot_read
from l0keras.graph.rules.rule import channel_axis
from l0keras.graph.rules.rule import take
from l0keras.graph.rules.rule import times

OTHER_AXIS = OtherAxis("reads along another axis than that of the channels")


class Linear(Rule):
    """Dense layers and convolutions: a kernel, a bias, an activation.

    The kernel is `(*window, inputs of one group, units)`; a dense layer has
    no window. Where a layer keeps it in another shape, `kernel` and `stored`
    go from one to the other.
    """

    shrinks_with_input = True
    units_argument = "filters"

    def kernel(self, node):
        return node.params["kernel"]

    def stored(self, kernel):
        """The weights for a kernel, by name: the inverse of `kernel`."""
        return {"kernel": kernel}

    def sources(self, node):
        return [np.full(node.output.size, -1)]

    def refuses(self, node):
        reason = cannot_read(node.layer)
        if reason:
            return reason
        if node.input.axis != self.output_axis(node):
            return OTHER_AXIS
        if self.groups(node) > 1 and not node.input.selectable:
            return "is grouped and its input carries a mask or is sparse"
        return None

    def output_axis(self, node):
        return channel_axis(node.layer, node.input)

    def creates(self, node):
        return True

    def takes_whole_sets(self, node):
        return self.groups(node) > 1

    def groups(self, node):
        return node.layer.groups

    # === What a subclass says that keeps its kernel otherwise ===

    def window(self, node):
        """The sizes of the window, a tuple."""
        return self.kernel(node).shape[:-2]

    def inputs_of_group(self, node):
        """How many inputs each group has."""
        return self.kernel(node).shape[-2]

    def connections(self, node):
        """Which inputs of a group reach which units, a boolean matrix."""
        kernel = self.kernel(node)
        return np.any(kernel != 0, axis=tuple(range(kernel.ndim - 2)))

    def sums(self, node, rows, columns):
        """The kernel's sums over the window, in float64.

        Args:
            node: a node.
            rows: positions of inputs within a group.
            columns: a slice of units.

        Returns:
            An array of these rows and columns.
        """
        part = self.kernel(node)[..., rows, columns]
        window = tuple(range(part.ndim - 2))
        return part.sum(axis=window, dtype="float64")

    def select(self, node, rows, columns):
        """The weights for some inputs of a group and some units.

        Args:
            node: a node.
            rows: positions of inputs within a group; a row of zeros is what
                one beyond it gets.
            columns: positions of units.

        Returns:
            Arguments of the layer that change, and the weights by name but
            for the bias.
        """
        kernel = _rows(self.kernel(node), rows)
        return {}, self.stored(take(kernel, columns, -1))

    # === Shared ===

    def _connected(self, node):
        """Which inputs reach which units, all of them."""
        small = self.connections(node)
        groups = self.groups(node)
        if groups == 1:
            return small
        inputs, units = small.shape
        full = np.zeros((inputs * groups, units), small.dtype)
        width = units // groups
        for group in range(groups):
            columns = slice(group * width, (group + 1) * width)
            rows = slice(group * inputs, (group + 1) * inputs)
            full[rows, columns] = small[:, columns]
        return full

    def _shares(self, node, values):
        """What inputs of these values, the same everywhere, add to units.

        Few inputs are constants other than 0, so only their rows are summed.
        """
        rows = np.flatnonzero(values)
        total = np.zeros(node.output.size)
        per_group = self.inputs_of_group(node)
        width = len(total) // self.groups(node)
        for group in np.unique(rows // per_group):
            own = rows[rows // per_group == group]
            columns = slice(group * width, (group + 1) * width)
            part = self.sums(node, own - group * per_group, columns)
            total[columns] = values[own] @ part
        return total

    def _bias(self, node):
        return node.params.get("bias", np.zeros(node.output.size))

    def _foldable(self, node):
        """Which inputs are constants that the bias can stand in for."""
        constants = node.constants()
        if self._sees_borders(node):
            # There the window sees zeros in the place of the constant.
            return constants == 0
        return ~np.isnan(constants)

    def _sees_borders(self, node):
        # Each output of a window of 1 sees one position, none beyond.
        return node.layer.padding != "valid" and any(
            size != 1 for size in self.window(node)
        )

    def constants(self, node):
        constants = node.input.constants
        known = ~np.isnan(constants)
        if self._sees_borders(node):
            known = constants == 0
        constant = ~np.any(self._connected(node)[~known], axis=0)
        shares = self._shares(node, np.where(known, constants, 0.0))
        values = self._bias(node) + shares
        return self._activate(node, np.where(constant, values, np.nan))

    def _activate(self, node, values):
        if not activations.is_elementwise(node.layer.activation):
            return np.full_like(values, np.nan)
        return activations.apply(node.layer.activation, values)

    def makes(self, node, live):
        if not activations.is_elementwise(node.layer.activation):
            return np.ones_like(live)
        alive = self._groups_alive(node, live)
        if len(alive) < 2:
            return live
        # All groups need the same number of units.
        whole = np.isin(np.arange(self.groups(node)), alive)
        return np.repeat(whole, len(live) // self.groups(node))

    def _groups_alive(self, node, made):
        by_group = made.reshape(self.groups(node), -1)
        return np.flatnonzero(np.any(by_group, axis=1))

    def reads(self, node, made):
        alive = self._groups_alive(node, made)
        if len(alive) > 1:
            groups = self.groups(node)
            whole = np.isin(np.arange(groups), alive)
            return [np.repeat(whole, node.input.size // groups)]
        connected = np.any(self._connected(node) & made, axis=1)
        return [connected & ~self._foldable(node)]

    def shrink(self, node):
        got, kept = node.got(), np.flatnonzero(node.made)
        inputs = self.inputs_of_group(node)
        alive = self._groups_alive(node, node.made)
        # Several groups have all their inputs, along the same axis.
        rows = np.arange(inputs)
        if len(alive) == 1:
            rows = got - alive[0] * inputs
        config, params = self.select(node, rows, kept)
        config[self.units_argument] = len(kept)
        if self.groups(node) > 1:
            config["groups"] = len(alive)
        bias = self._bias(node)[kept] + self._folded(node, got, kept)
        if node.layer.use_bias or np.any(bias):
            config["use_bias"] = True
            params["bias"] = bias
        return config, params

    def _folded(self, node, got, kept):
        """What the channels that are gone added to each unit."""
        gone = np.ones(node.input.size, bool)
        gone[got] = False
        if not np.any(gone):
            return 0.0
        values = np.where(gone, np.nan_to_num(node.constants()), 0.0)
        return self._shares(node, values)[kept]

    def silence(self, node, units):
        if not activations.is_elementwise(node.layer.activation):
            return False
        self.scale_output(node, np.where(units, 0.0, 1.0))
        return True

    def ties(self, node):
        groups = self.groups(node)
        if groups == 1:
            return []
        # A group goes with all its inputs and units.
        ties = []
        for position, value in ((0, node.input), (-1, node.output)):
            channels = np.arange(value.size)
            width = value.size // groups
            first = channels // width * (node.input.size // groups)
            ties.append((position, channels, 0, first))
        return ties

    def weights(self, node):
        *window, inputs, units = self.kernel(node).shape
        count = int(np.prod(window))
        groups = self.groups(node)
        columns = (-1, np.arange(units))
        # Input channels of a group only go with all its units.
        rows = [(0, np.arange(inputs))] if groups == 1 else []
        arrays = [(count * (1 if rows else inputs), [*rows, columns])]
        if "bias" in node.params:
            arrays.append((1, [columns]))
        return arrays

    def output_weights(self, node):
        if not activations.is_elementwise(node.layer.activation):
            return {}
        return super().output_weights(node)

    def takes_output_scale(self, node):
        return activations.is_homogeneous(node.layer.activation)

    def scale_output(self, node, scale):
        node.params.update(self.stored(times(self.kernel(node), scale)))
        if "bias" in node.params:
            node.params["bias"] = node.params["bias"] * scale

    def takes_input_scale(self, node):
        return True

    def scale_input(self, node, scale):
        kernel = self.kernel(node)
        groups = self.groups(node)
        # (inputs of a group, groups) -> one column for each unit.
        columns = scale.reshape(groups, -1).T
        columns = np.repeat(columns, kernel.shape[-1] // groups, axis=1)
        node.params.update(self.stored(times(kernel, columns)))

    def takes_joined_inputs(self, node):
        return self.groups(node) == 1

    def join_inputs(self, node, first, factors):
        kernel = self.kernel(node).copy()
        others = np.flatnonzero(factors)
        share = np.einsum(
            "...iu,i->...u", kernel[..., others, :], factors[others]
        )
        kernel[..., first, :] += share.astype(kernel.dtype)
        kernel[..., others, :] = 0.0
        node.params.update(self.stored(kernel))


class Dense(Linear):
    """`Dense`, along the last axis of an input of any rank."""

    units_argument = "units"

    def refuses(self, node):
        reason = cannot_read(node.layer)
        if reason:
            return reason
        if node.input.axis != self.output_axis(node):
            return OTHER_AXIS
        return None

    def output_axis(self, node):
        return node.input.rank - 1

    def groups(self, node):
        return 1

    def _sees_borders(self, node):
        return False


def _rows(kernel, rows):
    """Rows of a kernel, and zeros for positions beyond it.

    An input of a group that is gone may stand in where none is read.
    """
    inside = (0 <= rows) & (rows < kernel.shape[-2])
    part = take(kernel, np.where(inside, rows, 0), -2)
    if not np.all(inside):
        part[..., ~inside, :] = 0.0
    return part
