import keras
import numpy as np

from l0keras import layers


class LayerMaker:
    """Makes the weighted layers of a network, plain or with gates.

    Args:
        count: how many weighted layers the network has.
        l0: `None` for plain layers; else the price of one weight, one number
            for all layers or one for each.
        l2: weight decay, one number or one for each layer.
        droprate_init: the share of gates closed at the start, one number or
            one for each layer.
        sample_per: `"batch"` or `"example"`.
        seed: an integer or `None`.

    Raises:
        ValueError: a list of another length than `count`, or a value out of
            its range.
    """

    def __init__(self, count, l0, l2, droprate_init, sample_per, seed):
        self._gated = l0 is not None
        self._l0 = per_layer("l0", 0.0 if l0 is None else l0, count)
        self._l2 = per_layer("l2", l2, count)
        self._droprate_init = per_layer("droprate_init", droprate_init, count)
        self._sample_per = sample_per
        self._seeds = [None] * count
        if seed is not None:
            # Layers with one seed in common would draw the same noise.
            state = np.random.SeedSequence(seed).generate_state(count)
            self._seeds = [int(word) for word in state >> 1]
        self._next = 0

    def conv2d(self, filters, kernel_size, name):
        """A valid convolution with ReLU."""
        return self._make("Conv2D", filters, kernel_size, "relu", name)

    def dense(self, units, activation, name):
        return self._make("Dense", units, None, activation, name)

    def _make(self, kind, units, kernel_size, activation, name):
        index = self._next
        self._next += 1
        seed = self._seeds[index]
        l2 = self._l2[index]
        sizes = (units,) if kernel_size is None else (units, kernel_size)
        common = {
            "activation": activation,
            "kernel_initializer": keras.initializers.HeNormal(seed),
            "name": name,
        }
        if self._gated:
            return getattr(layers, f"L0{kind}")(
                *sizes,
                l0=self._l0[index],
                l2=l2,
                droprate_init=self._droprate_init[index],
                sample_per=self._sample_per,
                seed=seed,
                **common,
            )
        if not l2 >= 0:
            raise ValueError(
                f"Argument `l2` must be at least 0. Received: l2={l2}"
            )
        if l2:
            decay = keras.regularizers.L2(0.5 * l2)
            common["kernel_regularizer"] = decay
            common["bias_regularizer"] = decay
        return getattr(keras.layers, kind)(*sizes, **common)


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
