from keras import ops
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from l0keras.layers.gated_rnn import GatedCell
from l0keras.layers.gated_rnn import GatedRNN


class _ConvLSTMCell(GatedCell, ConvLSTMCell):
    def call(self, inputs, states, training=False):
        gates = self._gates_per_example
        if gates is not None:
            # Nothing but the recurrent kernel reads the first state.
            h, c = states
            axis = 1 if self.data_format == "channels_first" else -1
            shape = [-1] + [1] * (len(h.shape) - 1)
            shape[axis] = h.shape[axis]
            states = [h * ops.reshape(gates, shape), c]
        return super().call(inputs, states, training=training)


class GatedConvLSTM(GatedRNN):
    """What the gated ConvLSTM layers share: their filters are the units."""

    cell_class = _ConvLSTMCell
    left_out_of_config = ()

    @property
    def units_axis(self):
        first = self.data_format == "channels_first"
        return -1 - self.cell.rank if first else -1
