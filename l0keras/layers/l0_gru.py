import keras
from keras import ops

from l0keras.layers.gated_rnn import GatedCell
from l0keras.layers.gated_rnn import GatedRNN


class _GRUCell(GatedCell, keras.layers.GRUCell):
    def call(self, inputs, states, training=False):
        gates = self._gates_per_example
        if gates is None:
            return super().call(inputs, states, training=training)
        # The state is gated for the recurrent kernel, but not where it is
        # mixed with the new one, so the plain cell cannot be told.
        (h,) = states
        kernel = ops.convert_to_tensor(self.kernel)
        kernels = ops.split(kernel, 3, axis=1)
        kernel = ops.convert_to_tensor(self.recurrent_kernel)
        recurrent_kernels = ops.split(kernel, 3, axis=1)
        biases = recurrent_biases = [0.0] * 3
        if self.use_bias:
            biases = ops.split(ops.convert_to_tensor(self.bias), 3, axis=-1)
        if self.use_bias and self.reset_after:
            recurrent_biases = [bias[1] for bias in biases]
            biases = [bias[0] for bias in biases]
        x = self._dropped(inputs, self.dropout, self.get_dropout_mask, training)
        h_in = self._dropped(
            h * gates,
            self.recurrent_dropout,
            self.get_recurrent_dropout_mask,
            training,
        )
        x_z, x_r, x_new = (
            ops.matmul(values, kernel) + bias
            for values, kernel, bias in zip(x, kernels, biases, strict=True)
        )

        def recurrent(i, values):
            product = ops.matmul(values, recurrent_kernels[i])
            return product + recurrent_biases[i]

        z = self.recurrent_activation(x_z + recurrent(0, h_in[0]))
        r = self.recurrent_activation(x_r + recurrent(1, h_in[1]))
        if self.reset_after:
            from_h = r * recurrent(2, h_in[2])
        else:
            from_h = recurrent(2, r * h_in[2])
        h = z * h + (1 - z) * self.activation(x_new + from_h)
        return h, [h]

    def _dropped(self, values, rate, get_mask, training):
        """The values for each of the cell's own gates, after dropout."""
        if not (training and rate):
            return [values] * 3
        masks = get_mask(values)
        if not isinstance(masks, list):
            masks = [masks] * 3
        return [values * mask for mask in masks]


@keras.saving.register_keras_serializable("l0keras")
class L0GRU(GatedRNN, keras.layers.GRU):
    """A `keras.layers.GRU` with hard-concrete gates on its units.

    It is the plain layer with the recurrent kernel's row of each unit, and
    what the layer gives out of it, sequence, last output and state `h`,
    multiplied by the unit's gate. With every gate at 1 it is exactly the
    plain layer.

    One gate closes the unit's row of the recurrent kernel, its columns of the
    kernel and its biases.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 2.2; the paper has no recurrent layer.

    Args:
        units, activation, ...: as in `keras.layers.GRU`.
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

    >>> layer = L0GRU(64, return_sequences=True, l0=1e-6)
    >>> layer(keras.ops.ones((2, 9, 16))).shape
    (2, 9, 64)
    """

    plain_class = keras.layers.GRU
    cell_class = _GRUCell
