import math

import keras
import numpy as np
from keras import ops

from l0keras.gates.hard_concrete_gate import CLOSED
from l0keras.gates.hard_concrete_gate import Clip
from l0keras.regularizers import ExpectedCost

DEPENDENCE = (None, "forward", "backward")
LIMIT = math.log(100.0)


@keras.saving.register_keras_serializable("l0keras")
class GateGenerator(keras.layers.Layer):
    """Makes the `log_alpha` of all gates of a network, so that they depend.

    The generator is a multi-layer perceptron with one layer for each vector
    of gates. It has no data to read, only ones:

        h_0 = 1,  h_l = log(100) * tanh(W_l h_{l-1} + b_l),  log_alpha_l = h_l

    along the network (`"forward"`), or from its last gates to the first
    (`"backward"`). So whether a channel stays depends on which channels stay
    in the neighbouring layer. The gates are drawn independently given
    `log_alpha`. Without dependence, each `log_alpha` is a variable.

    Each gate is called with its part of them, as
    `gate(x, log_alpha=generator(inputs)[0])`.
    `l0keras.sparsify(dependence=...)` does so for a whole model, and
    `l0keras.strip` drops the generator.

    Source: Li and Ji, "Dep-L0: Improving L0-based network sparsification via
    dependency modeling", ECML-PKDD 2021 (arXiv:2107.00070), section 3.2.

    Args:
        units: how many gates each layer has, in the order of the network: a
            list of integers above 0.
        dependence: `"forward"`, `"backward"` or `None`.
        inputs: the number of ones that the chain starts with; `None` for as
            many as the first layer of the chain has gates.
        droprate_init: the share of units dropped at the start, in (0, 1), if
            weights were 0: biases are drawn from N(log((1-d)/d), 0.01^2). The
            default makes the mean 3, as in the paper. One number for all
            layers, or a list. Weights are drawn from U(-1/sqrt(n), 1/sqrt(n))
            for n inputs, which closes 7 to 9 percent of the gates of the
            paper's networks.
        penalty: a `regularizers.ExpectedCost` of the network, `None` for none.
        seed: an integer that fixes the initial weights.

    Input shape: any; only that there is an input counts.

    Output shape: a list of `(size,)`, in the order of `units`; float32
        whatever the dtype policy is.

    Raises:
        ValueError: an argument out of its range, or a penalty for other gates
            than these.

    Example:

    >>> first, second = GateGenerator([16, 32], "forward")(inputs)
    >>> x = HardConcreteGate()(x, log_alpha=first)
    """

    # Of `log_alpha` that is a variable.
    bias_constraint = Clip(LIMIT)

    def __init__(
        self,
        units,
        dependence="forward",
        inputs=None,
        droprate_init=1.0 / (1.0 + math.exp(3.0)),
        penalty=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = list(units)
        if not self.units or not all(_is_size(size) for size in self.units):
            raise ValueError(
                "Argument `units` must be a list of integers above 0. "
                f"Received: units={units}"
            )
        check_dependence(dependence)
        self.dependence = dependence
        if inputs is not None and not _is_size(inputs):
            raise ValueError(
                "Argument `inputs` must be an integer above 0 or None. "
                f"Received: inputs={inputs}"
            )
        self.inputs = inputs
        rates = droprate_init
        if isinstance(rates, (int, float)):
            rates = [rates] * len(self.units)
        if len(rates) != len(self.units) or not all(0 < d < 1 for d in rates):
            raise ValueError(
                "Argument `droprate_init` must lie in (0, 1), one number or "
                f"one for each of the {len(self.units)} layers. "
                f"Received: droprate_init={droprate_init}"
            )
        self.droprate_init = droprate_init
        self._means = [math.log((1.0 - d) / d) for d in rates]
        if isinstance(penalty, dict):
            penalty = keras.saving.deserialize_keras_object(penalty)
        self.penalty = penalty
        self.seed = seed

    @property
    def penalty(self):
        return self._penalty

    @penalty.setter
    def penalty(self, penalty):
        if penalty is not None and not isinstance(penalty, ExpectedCost):
            raise ValueError(
                "Argument `penalty` must be a `regularizers.ExpectedCost` or "
                f"None. Received: penalty={penalty!r}"
            )
        if penalty is not None and penalty.units != self.units:
            raise ValueError(
                "Argument `penalty` must be for the gates of this generator, "
                f"of units={self.units}. Received: a penalty for "
                f"units={penalty.units}"
            )
        self._penalty = penalty

    def build(self, input_shape):
        count = len(self.units)
        seeds = [None] * (2 * count)
        if self.seed is not None:
            words = np.random.SeedSequence(self.seed).generate_state(2 * count)
            seeds = [int(word >> 1) for word in words]
        self._biases = [
            self.add_weight(
                name=f"{'bias' if self.dependence else 'log_alpha'}_{index}",
                shape=(size,),
                initializer=keras.initializers.RandomNormal(
                    self._means[index], 0.01, seed=seeds[index]
                ),
                constraint=None if self.dependence else self.bias_constraint,
                dtype="float32",
                autocast=False,
            )
            for index, size in enumerate(self.units)
        ]
        # Which gates are closed for good, all layers one after another.
        self.closed = self.add_weight(
            name="closed",
            shape=(sum(self.units),),
            initializer="zeros",
            dtype="bool",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        self._kernels = [None] * count
        if self.dependence is None:
            return
        before = None
        for index in self._chain():
            size = self.units[index]
            if before is None:
                before = self.inputs or size
            self._kernels[index] = self.add_weight(
                name=f"kernel_{index}",
                shape=(before, size),
                # Uniform within 1 / sqrt(inputs).
                initializer=keras.initializers.VarianceScaling(
                    1 / 3, "fan_in", "uniform", seed=seeds[count + index]
                ),
                dtype="float32",
                autocast=False,
            )
            before = size

    def _chain(self):
        """The layers in the order in which they depend on one another."""
        order = range(len(self.units))
        return reversed(order) if self.dependence == "backward" else order

    def log_alphas(self):
        """The `log_alpha` of all gates, float32 tensors `(size,)`."""
        made = ops.concatenate(self._made())
        return self._split(made)

    def close(self, index, mask):
        """Closes gates for good, see `HardConcreteGate.close`.

        Args:
            index: the layer whose gates these are, an integer.
            mask: a boolean numpy array `(size,)`.
        """
        closed = ops.convert_to_numpy(self.closed).copy()
        closed[self._part(index)] |= mask
        self.closed.assign(closed)

    def closed_for_good(self, index):
        """Which gates of a layer are closed for good, a numpy array."""
        return ops.convert_to_numpy(self.closed)[self._part(index)].copy()

    def _part(self, index):
        start = sum(self.units[:index])
        return slice(start, start + self.units[index])

    def _split(self, values):
        """The parts of all layers, with what is closed for good closed."""
        closed = ops.convert_to_tensor(self.closed)
        values = ops.where(closed, CLOSED, values)
        ends = np.cumsum(self.units).tolist()
        return [values[end - size : end] for size, end in zip(self.units, ends)]

    def _made(self):
        """What the generator makes of its weights, for each layer."""
        if self.dependence is None:
            return [ops.convert_to_tensor(bias) for bias in self._biases]
        made = [None] * len(self.units)
        hidden = None
        for index in self._chain():
            kernel = ops.convert_to_tensor(self._kernels[index])
            if hidden is None:
                # The product with ones.
                hidden = ops.sum(kernel, axis=0)
            else:
                hidden = ops.matmul(hidden[None], kernel)[0]
            hidden = LIMIT * ops.tanh(hidden + self._biases[index])
            made[index] = hidden
        return made

    def log_alpha(self, index):
        """The `log_alpha` of one layer's gates, a float32 tensor `(size,)`."""
        return self.log_alphas()[index]

    def call(self, inputs):
        made = self.log_alphas()
        # As with a regularizer, what is frozen costs nothing.
        if self.penalty is not None and self.penalty.l0 and self.trainable:
            self.add_loss(self.penalty(made))
        return made

    def compute_output_spec(self, inputs):
        return [keras.KerasTensor((size,), "float32") for size in self.units]

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "dependence": self.dependence,
            "inputs": self.inputs,
            "droprate_init": self.droprate_init,
            "penalty": keras.saving.serialize_keras_object(self.penalty),
            "seed": self.seed,
        }


def check_dependence(dependence):
    if dependence not in DEPENDENCE:
        raise ValueError(
            f"Argument `dependence` must be one of {DEPENDENCE}. "
            f"Received: dependence={dependence!r}"
        )


def _is_size(size):
    return isinstance(size, int) and size > 0
