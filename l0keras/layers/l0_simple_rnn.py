import keras

from l0keras.layers.gated_rnn import GatedCell
from l0keras.layers.gated_rnn import GatedRNN


class _SimpleRNNCell(GatedCell, keras.layers.SimpleRNNCell):
    def call(self, sequence, states, training=False):
        if self._gates_per_example is not None:
            # Nothing but the recurrent kernel reads the state.
            (h,) = states
            states = [h * self._gates_per_example]
        return super().call(sequence, states, training=training)


@keras.saving.register_keras_serializable("l0keras")
class L0SimpleRNN(GatedRNN, keras.layers.SimpleRNN):
    """A `keras.layers.SimpleRNN` with hard-concrete gates on its units.

    It is the plain layer with the recurrent kernel's row of each unit, and
    what the layer gives out of it, sequence, last output and state,
    multiplied by the unit's gate. With every gate at 1 it is exactly the
    plain layer.

    One gate closes the unit's row of the recurrent kernel, its column of the
    kernel and its bias.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 2.2; the paper has no recurrent layer.

    Args:
        units, activation, ...: as in `keras.layers.SimpleRNN`.
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples.
        l2: weight decay coupled with the gates, divided likewise: the
            penalty is 0.5 * l2 * w^2 times the probability of an open gate.
        granularity: `"output"`, the only one: one gate for each unit.
        droprate_init: the share of gates closed at the start, in (0, 1).
        sample_per: `"batch"` or `"example"`; all time steps share a sample.
        temperature, gamma, zeta, log_alpha_limit: see
            `l0keras.HardConcreteGate`.
        seed: an integer that fixes the gates' noise and first `log_alpha`,
            and dropout.

    Call arguments:
        sequences, initial_state, mask, training: as in the plain layer.
        gates: `None`, or what a `SharedGate` of units gives out, which other
            layers may have too; in all calls or in none. The layer then has
            no gates of its own.

    Input shape: `(batch, steps, features)`.

    Output shape: that of the plain layer.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> layer = L0SimpleRNN(64, return_sequences=True, l0=1e-6)
    >>> layer(keras.ops.ones((2, 9, 16))).shape
    (2, 9, 64)
    """

    plain_class = keras.layers.SimpleRNN
    cell_class = _SimpleRNNCell
    left_out_of_config = ()
