import keras
import numpy as np

from l0keras import layers
from l0keras.models.checks import check_gates
from l0keras.models.checks import check_l2


class LayerMaker:
    """Makes the weighted layers of a network, plain or with gates.

    Args:
        count: how many weighted layers the network has.
        gates: `None` for plain layers, or `"paper"` for gated ones.
        l0: the price of one weight, one number for all layers or one for
            each.
        l2: weight decay, one number or one for each layer.
        droprate_init: the share of gates closed at the start, one number or
            one for each layer.
        sample_per: `"batch"` or `"example"`.
        seed: an integer or `None`.

    Raises:
        ValueError: a list of another length than `count`, a value out of its
            range, or a price without gates.
    """

    def __init__(self, count, gates, l0, l2, droprate_init, sample_per, seed):
        check_gates(gates, l0)
        self._gated = gates is not None
        self._l0 = per_layer("l0", l0, count)
        self._l2 = per_layer("l2", l2, count)
        self._droprate_init = per_layer("droprate_init", droprate_init, count)
        self._sample_per = sample_per
        self._seeds = [None] * count
        if seed is not None:
            # Layers with one seed in common would draw the same noise.
            state = np.random.SeedSequence(seed).generate_state(count)
            self._seeds = [int(word) for word in state >> 1]
        self._next = 0

    def conv2d(self, filters, kernel_size, name, padding="valid"):
        """A convolution with ReLU."""
        sizes = {"filters": filters, "kernel_size": kernel_size}
        return self._make("Conv2D", "relu", name, padding=padding, **sizes)

    def dense(self, units, activation, name, use_bias=True):
        """A fully connected layer."""
        return self._make(
            "Dense", activation, name, units=units, use_bias=use_bias
        )

    def _make(self, kind, activation, name, **arguments):
        index = self._next
        self._next += 1
        seed, l2 = self._seeds[index], self._l2[index]
        arguments["activation"] = activation
        arguments["kernel_initializer"] = keras.initializers.HeNormal(seed)
        arguments["name"] = name
        if self._gated:
            return getattr(layers, f"L0{kind}")(
                l0=self._l0[index],
                l2=l2,
                droprate_init=self._droprate_init[index],
                sample_per=self._sample_per,
                seed=seed,
                **arguments,
            )
        check_l2(l2)
        if l2:
            decay = keras.regularizers.L2(0.5 * l2)
            arguments["kernel_regularizer"] = decay
            if arguments.get("use_bias", True):
                arguments["bias_regularizer"] = decay
        return getattr(keras.layers, kind)(**arguments)


def per_layer(name, value, count):
    """Spreads one number, or one for each layer, over `count` layers."""
    if isinstance(value, (int, float)):
        return [float(value)] * count
    values = [float(entry) for entry in value]
    if len(values) != count:
        raise ValueError(
            f"Argument `{name}` must be one number or one for each of the "
            f"{count} weighted layers. Received: {name}={value}"
        )
    return values
