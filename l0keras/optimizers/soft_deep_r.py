import collections

import keras
import numpy as np
from keras import ops

from l0keras.connections.arguments import check_at_least_0
from l0keras.connections.arguments import check_connectivity
from l0keras.connections.initial_connections import rng_of
from l0keras.connections.initial_connections import signs_of
from l0keras.connections.initial_connections import values_of
from l0keras.connections.positions import draw_positions
from l0keras.connections.positions import signs_at
from l0keras.connections.seeds import StepSeed
from l0keras.connections.sparse_variables import sparse_variables
from l0keras.connections.sparse_variables import storage_of
from l0keras.optimizers.wrapped_optimizer import RewiringOptimizer


@keras.saving.register_keras_serializable("l0keras")
class SoftDeepR(RewiringOptimizer):
    """Soft-DEEP R: connections come and go, and their number is not fixed.

    As in `DeepR`, each potential connection has a sign that never changes and
    a theta; its weight is sign * theta where theta > 0, else 0. Dormant
    connections have a theta too, so memory grows with the potential
    connections. One step:

    1. The inner optimizer makes its step; dormant weights are set to 0 again.
    2. Active: theta <- theta - lr * l1 + sqrt(2 * lr * T) * noise.
    3. Dormant: theta <- theta + sqrt(2 * lr * T) * noise, at least
       theta_min = -T * (1 - p) / (l1 * p).

    A connection becomes active or dormant when its theta crosses 0. With this
    lower bound and without gradients, a share p of the connections is active
    in the long run: the density of theta is exponential with scale T / l1
    above 0 and flat below.

    At the start exactly a share p of the connections is active. They are
    drawn uniformly and have the magnitudes of their initial weights; theta of
    the others is uniform between theta_min and 0. (The authors' code draws
    thetas of active connections from a normal distribution around 0, so half
    of them are dormant at once.) If exactly a share p of the initial weights
    is not 0, these connections are the active ones.

    Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018
    (arXiv:1711.05136), algorithm 2; theta_min as in the authors' code.

    Args:
        inner, include, seed, name, use_ema, ema_momentum: see `DeepR`.
        connectivity: p, or rules, see `DeepR`. In (0, 1).
        l1: the paper's alpha, above 0.
        temperature: the paper's T, above 0; or `None` for its rule of thumb
            lr * l1^2 / 18 with the current learning rate lr, so that the
            noise of a step is a third of what l1 takes.

    Raises:
        ValueError: an argument out of its range. On build: see `DeepR`, or a
            layer with sparse storage is to be sparse.

    Example:

    >>> optimizer = SoftDeepR(keras.optimizers.SGD(0.05), connectivity=0.01)
    >>> model.compile(optimizer, loss="mse")
    """

    def __init__(
        self,
        inner,
        connectivity=0.01,
        l1=1e-4,
        temperature=None,
        include=None,
        seed=None,
        name=None,
        use_ema=False,
        ema_momentum=0.99,
    ):
        connectivity = check_connectivity(connectivity)
        rules = connectivity
        if not isinstance(rules, list):
            rules = [(None, connectivity)]
        if any(share == 1 for _, share in rules):
            raise ValueError(
                "Argument `connectivity` must be less than 1, or no "
                "connection would ever be dormant. "
                f"Received: connectivity={connectivity}"
            )
        if not check_at_least_0("l1", l1):
            raise ValueError(
                "Argument `l1` must be above 0: it limits the number of "
                f"connections. Received: l1={l1}"
            )
        if temperature is not None and not check_at_least_0(
            "temperature", temperature
        ):
            raise ValueError(
                "Argument `temperature` must be above 0, or dormant "
                "connections would never move, or None for lr * l1^2 / 18. "
                f"Received: temperature={temperature}"
            )
        super().__init__(inner, include, seed, name, use_ema, ema_momentum)
        self.connectivity = connectivity
        self.l1 = float(l1)
        self.temperature = temperature
        self._sparse = collections.deque()

    def _build_sparse(self, variables):
        super()._build_sparse(variables)
        chosen = sparse_variables(variables, self.connectivity, self.include)
        sparse = []
        for index, (variable, count) in enumerate(chosen):
            if storage_of(variable):
                raise ValueError(
                    "Soft-DEEP R needs a theta for every potential "
                    "connection, and sparse storage has room for active ones "
                    f"only: use `DeepR`. Received: {variable.path!r}"
                )
            sparse.append(self._start(variable, count, index))
        # Keras would take the variables in a list or tuple for new state.
        self._sparse = collections.deque(sparse)

    def _start(self, variable, count, index):
        array = values_of(variable)
        flat = array.reshape(-1)
        rng = rng_of(self.seed, index)
        active = np.zeros(flat.size, bool)
        if np.count_nonzero(flat) == count:
            active = flat != 0
        else:
            active[draw_positions(flat.size, count, rng)] = True
        random = ops.convert_to_numpy(
            signs_at(ops.arange(flat.size, dtype="int32"), self.seed + index)
        )
        signs = signs_of(flat, random)
        share = count / flat.size
        rate = float(ops.convert_to_numpy(self._hidden[0].learning_rate))
        temperature = self.temperature
        if temperature is None:
            temperature = rate * self.l1**2 / 18
        lowest = -temperature * (1 - share) / (self.l1 * share)
        dormant = rng.uniform(lowest, 0, flat.size)
        thetas = np.where(active, np.abs(flat), dormant)
        theta = self.add_variable_from_reference(variable, name="theta")
        sign = self.add_variable(
            variable.shape, "zeros", "int8", name=f"{index}_sign"
        )
        switched = self.add_variable((), "zeros", "int32", name="rewired")
        theta.assign(thetas.reshape(array.shape))
        sign.assign(signs.reshape(array.shape))
        variable.assign(np.where(active, flat, 0).reshape(array.shape))
        return variable, theta, sign, switched, share

    def _prepared(self, grads, variables):
        theta_of = {
            self._var_key(variable): theta
            for variable, theta, *_ in self._sparse
            if self._must_be_masked(variable)
        }
        return [
            ops.where(
                theta_of[self._var_key(v)] > 0,
                ops.convert_to_tensor(g),
                ops.zeros((), v.dtype),
            )
            if self._var_key(v) in theta_of
            else g
            for g, v in zip(grads, variables)
        ]

    def _correct(self, learning_rate, is_step):
        step = ops.cast(self._iterations, "int32")
        for index, sparse in enumerate(self._sparse):
            variable, theta, sign, switched, share = sparse
            dtype = variable.dtype
            rate = ops.cast(learning_rate, dtype)
            temperature = self.temperature
            if temperature is None:
                temperature = rate * (self.l1**2 / 18)
            noise = keras.random.normal(
                variable.shape,
                dtype=dtype,
                seed=StepSeed(self._seed + index, step),
            )
            noise = noise * ops.sqrt(2 * rate * temperature)
            old = ops.convert_to_tensor(theta)
            active = old > 0
            signs = ops.cast(sign, dtype)
            lowest = -temperature * ((1 - share) / (self.l1 * share))
            new = ops.where(
                active,
                signs * variable - rate * self.l1 + noise,
                old + noise,
            )
            # The bound also holds for connections that die in this step.
            new = ops.where(new > 0, new, ops.maximum(new, lowest))
            if is_step is not True:
                new = ops.where(is_step, new, old)
            opened = ops.logical_and(new > 0, ops.logical_not(active))
            switched.assign_add(ops.sum(ops.cast(opened, "int32")))
            theta.assign(new)
            zero = ops.zeros((), dtype)
            weights = ops.where(new > 0, signs * new, zero)
            if is_step is not True:
                kept = ops.where(active, ops.convert_to_tensor(variable), zero)
                weights = ops.where(is_step, weights, kept)
            variable.assign(weights)

    def _correct_averages(self):
        averages = self._averages()
        for variable, theta, *_ in self._sparse:
            average = averages[self._var_key(variable)]
            zero = ops.zeros((), variable.dtype)
            own = ops.convert_to_tensor(average)
            average.assign(ops.where(theta > 0, own, zero))

    def masks(self):
        """Which connections are active: boolean arrays by path."""
        return self._of_each(
            lambda theta, _: np.asarray(ops.convert_to_numpy(theta)) > 0
        )

    def active_shares(self):
        """The share of active connections, by path."""
        return {path: float(mask.mean()) for path, mask in self.masks().items()}

    def rewired(self):
        """The number of times that a connection became active, by path."""
        return self._of_each(
            lambda _, switched: int(ops.convert_to_numpy(switched))
        )

    def _of_each(self, function):
        self._check_built()
        return {
            variable.path: function(theta, switched)
            for variable, theta, _, switched, _ in self._sparse
        }

    def get_config(self):
        return {
            **super().get_config(),
            "connectivity": self.connectivity,
            "l1": self.l1,
            "temperature": self.temperature,
        }
