import keras

from l0keras.layers.gated_conv_lstm import GatedConvLSTM


@keras.saving.register_keras_serializable("l0keras")
class L0ConvLSTM3D(GatedConvLSTM, keras.layers.ConvLSTM3D):
    """A `keras.layers.ConvLSTM3D` with hard-concrete gates on its filters.

    It is the plain layer with what the recurrent kernel reads of each filter,
    and what the layer gives out of it, sequence, last output and states,
    multiplied by the filter's gate. With every gate at 1 it is exactly the
    plain layer.

    One gate closes what the recurrent kernel reads of a filter, and the
    kernel and the bias that make it.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 2.2; the paper has no recurrent layer.

    Args:
        filters, kernel_size, ...: as in `keras.layers.ConvLSTM3D`.
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples.
        l2: weight decay coupled with the gates, divided likewise: the
            penalty is 0.5 * l2 * w^2 times the probability of an open gate.
        granularity: `"output"`, the only one: one gate for each filter.
        droprate_init: the share of gates closed at the start, in (0, 1).
        sample_per: `"batch"` or `"example"`; all time steps share a sample.
        temperature, gamma, zeta, log_alpha_limit: see
            `l0keras.HardConcreteGate`.
        seed: an integer that fixes the gates' noise and first `log_alpha`,
            and dropout.

    Call arguments:
        sequences, initial_state, mask, training: as in the plain layer.
        gates: `None`, or what a `SharedGate` of filters gives out, which other
            layers may have too; in all calls or in none. The layer then has
            no gates of its own.

    Input shape: `(batch, steps, depth, height, width, channels)`, or the
    channels in front of the sizes.

    Output shape: that of the plain layer.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> layer = L0ConvLSTM3D(16, 3, l0=1e-6)
    >>> layer(keras.ops.ones((2, 4, 8, 8, 8, 3))).shape
    (2, 6, 6, 6, 16)
    """

    plain_class = keras.layers.ConvLSTM3D
