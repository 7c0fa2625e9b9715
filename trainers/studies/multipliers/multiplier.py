import keras
from keras import ops

import l0keras

# `log_alpha` is kept within plus or minus this. The log 100 of gates with a
# price would leave them open with probability 0.047.
LIMIT = 8.0
# How far a gate would go that an optimizer moved the same way in all steps.
WAY = 40.0


class Within(keras.constraints.Constraint):
    """Keeps a variable within plus or minus a number.

    Args:
        limit: the number, above 0.
    """

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, w):
        return ops.clip(w, -self.limit, self.limit)


class Multiplier(l0keras.GateBudget):
    """Holds gates to budgets by prices, one for each, that go up and down.

    The loss is task + sum_k multiplier_k * C_k, where C_k is the expected
    cost as a share of that with all gates open. A subclass says how the
    multipliers move. They are variables that change in calls for training, as
    all the state of `GateBudget` does.

    Gates need a speed that fits the number of steps. Here it is fixed for an
    optimizer, such as Adam, that moves a variable by about its learning rate
    in a step: log_alpha = gain * variable, where the gain is such that
    `steps` steps in one direction would be a way of 40. The distance from
    where gates start to where their test gates close is 5.3.

    Args:
        units, steps, budgets, inputs, droprate_init, seed: as in
            `l0keras.GateBudget`.
        learning_rate: of the optimizer, above 0.
        dependence: `None`; chains of gates have no gain.

    Input shape, output shape: as of `l0keras.GateBudget`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self, units, steps=1, *, learning_rate=1e-3, dependence=None, **kwargs
    ):
        if dependence is not None:
            raise ValueError(
                "Argument `dependence` must be None for a controller with a "
                f"multiplier. Received: dependence={dependence!r}"
            )
        if not learning_rate > 0:
            raise ValueError(
                "Argument `learning_rate` must be above 0. "
                f"Received: learning_rate={learning_rate}"
            )
        super().__init__(units, steps, dependence=dependence, **kwargs)
        self.learning_rate = learning_rate
        self.gain = WAY / (learning_rate * steps)
        # Of the variables that are multiplied by the gain.
        self._means = [mean / self.gain for mean in self._means]

    @property
    def bias_constraint(self):
        """Keeps `log_alpha` from running away where nothing holds it."""
        return Within(LIMIT / self.gain)

    def build(self, input_shape):
        super().build(input_shape)
        self.multipliers = self.add_state("multipliers")

    def add_state(self, name, initializer="zeros"):
        """A variable that is not trained, with a number for each budget."""
        return self.add_weight(
            name=name,
            shape=(self.budgets,),
            initializer=initializer,
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def log_alphas(self):
        """The `log_alpha` of all gates, float32 tensors `(size,)`."""
        return self._split(self.gain * self._raw())

    @property
    def limits(self):
        """The budgets as shares of the costs with all gates open."""
        return self._limits / self._full

    def shares(self, log_alphas):
        """The expected costs as such shares, a tensor `(budgets,)`."""
        return self.expected(log_alphas) / self._full

    def next_multipliers(self, shares, log_alphas):
        """How the multipliers move; also moves any further state.

        Args:
            shares: the expected costs, see `shares`, without a gradient.
            log_alphas: those of all gates, a list of tensors.

        Returns:
            A tensor `(budgets,)` of numbers of at least 0.
        """
        raise NotImplementedError

    def call(self, inputs, training=False):
        log_alphas = self.log_alphas()
        if not (training and self.trainable and self.costs):
            return log_alphas
        shares = self.shares(log_alphas)
        prices = self.next_multipliers(ops.stop_gradient(shares), log_alphas)
        self.multipliers.assign(prices)
        self.step.assign_add(1)
        self.add_loss(ops.sum(ops.stop_gradient(prices) * shares))
        return log_alphas

    def get_config(self):
        return {**super().get_config(), "learning_rate": self.learning_rate}


def share_of_steps(step, steps):
    """How much of the training has passed, a float tensor in [0, 1]."""
    return ops.minimum(ops.cast(step, "float32") / steps, 1.0)
