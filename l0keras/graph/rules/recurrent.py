import itertools
import math

import keras
import numpy as np
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from l0keras import activations
from l0keras.copying import Copier
from l0keras.graph.graph import Value
from l0keras.graph.rules.rule import Rule

# How many columns of the kernels a unit has, and which of them makes what is
# added to its state: with that at 0 a unit that starts from 0 stays there.
_GATES = {
    keras.layers.SimpleRNNCell: (1, 0),
    keras.layers.LSTMCell: (4, 2),
    keras.layers.GRUCell: (3, 2),
    ConvLSTMCell: (4, 2),
}
_LAYERS = (
    keras.layers.RNN,
    keras.layers.SimpleRNN,
    keras.layers.LSTM,
    keras.layers.GRU,
    keras.layers.ConvLSTM1D,
    keras.layers.ConvLSTM2D,
    keras.layers.ConvLSTM3D,
)


class Recurrent(Rule):
    """`SimpleRNN`, `LSTM`, `GRU`: a unit goes with all of its gates.

    So it is with an `RNN` of their cells, and with the filters of a
    `ConvLSTM2D` and the like.

    A unit stays if it is read, or if one that stays reads its state. A mask
    only says which steps are left out, so nothing depends on it. The states
    that a call starts from, or gives out, have the units as channels. A
    stateful layer starts from zeros.
    """

    inputs = None
    several_outputs = True
    with_arguments = True
    shrinks_with_input = True

    def _cell(self, node):
        return Cell(node.layer, node.params)

    def refuses(self, node):
        return refuses(node.layer) or refuses_call(node)

    def _states(self, node):
        """The inputs that are states: pairs of a position and its channels.

        The channels are those of the output that are of the same units.
        """
        units = np.arange(node.output.size)
        return [(position, units) for position in initial_states(node)]

    def channel_inputs(self, node):
        return [0, *initial_states(node)]

    def output_axis(self, node):
        return node.output.rank - 1

    def sources(self, node):
        return [np.full(node.output.size, -1) for _ in node.inputs]

    def creates(self, node):
        return True

    def takes_whole_sets(self, node):
        # States have to be those of the units and no others.
        return bool(initial_states(node))

    def ties(self, node):
        return [
            (-1, channels, position, np.arange(len(channels)))
            for position, channels in self._states(node)
        ]

    def _starts(self, node):
        """Which channels of the output may start from something but zero."""
        starts = np.zeros(node.output.size, bool)
        for position, channels in self._states(node):
            starts[channels] |= node.constants(position) != 0
        return starts

    def constants(self, node):
        zeros = self._cell(node).zeros(node.input.constants, self._starts(node))
        return np.where(zeros, 0.0, np.nan)

    def makes(self, node, live):
        return self._cell(node).needs(
            live, node.constants(), self._starts(node)
        )

    def reads(self, node, made):
        masks = [np.ones(value.size, bool) for value in node.inputs]
        masks[0] = self._cell(node).reads(made, node.constants())
        for position, channels in self._states(node):
            masks[position] = made[channels]
        return masks

    def shrink(self, node):
        kept = np.flatnonzero(node.made)
        return self._cell(node).cut(node.got(), kept, node.constants())

    def weights(self, node):
        return self._cell(node).weights(np.arange(node.output.size))

    def output_weights(self, node):
        return self._cell(node).output_weights(np.arange(node.output.size))

    def takes_input_scale(self, node):
        return True

    def scale_input(self, node, scale):
        node.params["kernel"] = node.params["kernel"] * scale[:, None]

    def takes_joined_inputs(self, node):
        # Where windows see no borders a bias stands in for constants.
        return getattr(node.layer.cell, "padding", "valid") != "valid"

    def join_inputs(self, node, first, factors):
        kernel = node.params["kernel"].copy()
        others = np.flatnonzero(factors)
        share = np.einsum(
            "...iu,i->...u", kernel[..., others, :], factors[others]
        )
        kernel[..., first, :] += share.astype(kernel.dtype)
        kernel[..., others, :] = 0.0
        node.params["kernel"] = kernel


class Cell:
    """The weights of one recurrent layer, sorted by units.

    Args:
        layer: a Keras layer of a type that `refuses` finds nothing wrong with.
        params: its weights, a dictionary of numpy arrays.
    """

    def __init__(self, layer, params):
        self.layer = layer
        self.cell = layer.cell
        self.gates, self.candidate = _GATES[type(self.cell)]
        self.size = "units" if hasattr(self.cell, "units") else "filters"
        self.units = getattr(self.cell, self.size)
        self.window = params["kernel"].shape[:-2]
        self.kernel = self._by_row(params["kernel"])
        self.recurrent = self._by_row(params["recurrent_kernel"])
        self.bias = None
        if self.cell.use_bias:
            # A row each for the two kernels, where the layer has that.
            self.bias = self._by_unit(params["bias"])

    def _by_unit(self, array):
        """Splits the last axis: all units for one gate, then for the next."""
        return array.reshape(*array.shape[:-1], self.gates, self.units)

    def _by_row(self, kernel):
        """A kernel by what it reads, positions in a window, gates, units."""
        rows = self._by_unit(np.moveaxis(kernel, -2, 0))
        return rows.reshape(len(rows), -1, self.gates, self.units)

    def _flat(self, rows):
        """The inverse of `_by_row`, for any number of rows and units."""
        kernel = rows.reshape(len(rows), *self.window, -1)
        return np.moveaxis(kernel, 0, -2)

    def _known(self, constants):
        """The constants that are the same at all positions, with borders."""
        if getattr(self.cell, "padding", "valid") == "valid":
            return constants
        return np.where(constants == 0, 0.0, np.nan)

    @property
    def mixes(self):
        functions = (
            self.cell.activation,
            getattr(self.cell, "recurrent_activation", None),
        )
        return not all(map(activations.is_elementwise, functions))

    def _shares(self, constants):
        """What inputs of these values add, NaN where one is not known."""
        constants = self._known(constants)
        unknown = self.kernel[np.isnan(constants)]
        kernel = np.sum(self.kernel, axis=1, dtype="float64")
        shares = np.tensordot(np.nan_to_num(constants), kernel, axes=1)
        return np.where(np.any(unknown != 0, axis=(0, 1)), np.nan, shares)

    def zeros(self, constants, starts):
        """Which units are 0 at every step, whatever the input.

        Args:
            constants: those of the input.
            starts: a mask of the units that may start from another state
                than 0.
        """
        activation = self.cell.activation
        if self.mixes or np.any(activations.apply(activation, np.zeros(1))):
            return np.zeros(self.units, bool)
        zero = self._shares(constants)[self.candidate] == 0
        if self.bias is not None:
            bias = self.bias[..., self.candidate, :]
            zero &= np.all(bias.reshape(-1, self.units) == 0, axis=0)
        zero &= ~starts
        # Of those, the ones that no other unit stirs. Induction over the
        # steps: what is 0 before a step and is stirred by nothing else is 0
        # after it.
        feeds = np.any(self.recurrent[:, :, self.candidate] != 0, axis=1)
        while True:
            calm = zero & ~np.any(feeds[~zero], axis=0)
            if np.array_equal(calm, zero):
                return zero
            zero = calm

    def needs(self, units, constants, starts):
        """The units whose states these units depend on, with themselves."""
        if self.mixes:
            return np.ones_like(units)
        return _closure(units, self._feeds(constants, starts))

    def _feeds(self, constants, starts):
        """Which units (rows) have states that others (columns) depend on."""
        feeds = np.any(self.recurrent != 0, axis=(1, 2))
        return feeds & ~self.zeros(constants, starts)[:, None]

    def one_more(self, units, constants, starts):
        """These units and one more, the one that needs the fewest others."""
        if self.mixes:
            return np.ones_like(units)
        feeds = self._feeds(constants, starts)
        others = np.flatnonzero(~units)
        among = feeds[np.ix_(others, others)]
        np.fill_diagonal(among, False)
        alone = others[~np.any(among, axis=0)]
        if len(alone):
            others = alone[:1]
        more = [units.copy() for _ in others]
        for mask, unit in zip(more, others, strict=True):
            mask[unit] = True
        return min((_closure(mask, feeds) for mask in more), key=np.sum)

    def reads(self, units, constants):
        """The inputs that the bias cannot stand in for."""
        connected = np.any(self.kernel[..., units] != 0, axis=(1, 2, 3))
        return connected & np.isnan(self._known(constants))

    def cut(self, got, kept, constants):
        """The configuration and the weights with some inputs and units."""
        gone = np.ones(len(constants), bool)
        gone[got] = False
        values = np.nan_to_num(self._known(constants))
        values = np.where(gone, values, 0.0)
        # An input that is gone and not known is not connected.
        shares = np.tensordot(values, self.kernel.sum(axis=1), axes=1)
        shares = shares[..., kept]
        params = {
            "kernel": self._flat(self.kernel[got][..., kept]),
            "recurrent_kernel": self._flat(self.recurrent[kept][..., kept]),
        }
        config = {self.size: len(kept)}
        if self.cell.use_bias or np.any(shares):
            config["use_bias"] = True
            bias = self._bias_with(shares, kept)
            params["bias"] = bias.reshape(*bias.shape[:-2], -1)
        if type(self.layer) is keras.layers.RNN:
            cell = Copier().changed(self.cell, self.cell.name, config)
            config = {"cell": cell}
        return config, params

    def _bias_with(self, shares, kept):
        if self.bias is not None:
            bias = self.bias[..., kept].copy()
        elif getattr(self.cell, "reset_after", False):
            bias = np.zeros((2, *shares.shape))
        else:
            bias = np.zeros(shares.shape)
        if bias.ndim > shares.ndim:
            bias[0] += shares
        else:
            bias += shares
        return bias

    def weights(self, outputs):
        """For `Rule.weights`, where `outputs` are the units' channels."""
        columns = (-1, outputs)
        count = self.gates * math.prod(self.window)
        arrays = [
            (count, [(0, np.arange(len(self.kernel))), columns]),
            (count, [columns, columns]),
        ]
        if self.bias is not None:
            arrays.append((self.bias.size // self.units, [columns]))
        return arrays

    def output_weights(self, outputs):
        """For `Rule.output_weights`: what goes into a unit, by all gates."""
        columns = np.tile(outputs, self.gates)
        found = {"kernel": columns[None], "recurrent_kernel": columns[None]}
        if self.bias is not None:
            # One row, or two where the kernels have biases of their own.
            rows = self.bias.ndim - 2
            found["bias"] = columns.reshape((1,) * rows + (-1,))
        return found


def _closure(units, feeds):
    """Units with all whose states they depend on, directly or not."""
    while True:
        more = units | np.any(feeds[:, units], axis=1)
        if np.array_equal(more, units):
            return units
        units = more


def refuses(layer):
    """Why a layer cannot be a `Cell`, or `None`."""
    if type(layer) not in _LAYERS:
        return f"no rule for a recurrent {type(layer).__name__}"
    if type(layer.cell) not in _GATES:
        return f"no rule for the cells of a {type(layer.cell).__name__}"
    if layer.cell.dtype_policy.name != layer.dtype_policy.name:
        return "its cell has another dtype policy"
    return None


def refuses_call(node):
    """Why a call of a recurrent layer is not understood, or `None`."""
    last = node.input.rank - 1
    first = getattr(node.layer, "data_format", None) == "channels_first"
    if node.input.axis != last or first:
        return "reads along another axis than that of the channels"
    states = initial_states(node)
    if any(initial_states(other) != states for other in node.operation.nodes):
        return "only some of its calls start from given states"
    given = [node.inputs[position] for position in states]
    if len(given) != len(_initial_state(node.args, node.kwargs)):
        return "starts from states that are no tensors of the model"
    for value in given:
        if value.axis != value.rank - 1 or not value.selectable:
            return "starts from states with channels elsewhere"
    return None


def initial_states(node):
    """The positions of the inputs that are states to start from."""
    count = itertools.count()
    args, kwargs = keras.tree.map_structure(
        lambda x: next(count) if isinstance(x, Value) else None,
        (node.args, node.kwargs),
    )
    state = _initial_state(args, kwargs)
    return [position for position in state if position is not None]


def _initial_state(args, kwargs):
    """The argument of that name, a list."""
    state = args[1] if len(args) > 1 else kwargs.get("initial_state")
    return [] if state is None else keras.tree.flatten(state)
