import numbers

import keras
import numpy as np
from keras import ops

from l0keras.gates.gate_generator import GateGenerator

# The standard deviation of `log_alpha` over all gates when the schedule ends:
# few gates are left between open and closed then.
SPREAD = 16.0
# The shares of the steps at which the budget begins to shrink and has done so.
BEGIN, ARRIVAL = 0.05, 0.7
# The largest change of an offset in one step.
_MOST = 0.5
# The distance at which a slope is measured.
_PROBE = 0.01


@keras.saving.register_keras_serializable("l0keras")
class GateBudget(GateGenerator):
    """Makes the `log_alpha` of all gates so that they keep to a budget.

    There is no price. The gates learn which of them the task can do without,
    and an offset that all have in common says how many may be open:

        log_alpha_g = start + spread(t) * m_g / std(m) - sum_k offset_k,

    where m_g is how far the gate has moved in training from where it began,
    less the mean of all, and k counts the budgets that the gate has a part in.
    In each step in training, one step of Newton's method moves the offsets so
    that the expected cost of the network is what the schedule allows, which
    shrinks from the whole network to the budget. An offset below 0 is none.

    The offsets follow the gates, so the gradient goes through them, too: a
    gate is moved by what it is worth to the task less what its cost takes from
    the others. That is the gradient of the Lagrangian with the multiplier at
    which the constraint holds, so no multiplier has to be found, and no scale
    of the loss matters. Only how the gates have moved in relation to each
    other counts, so they arrive at the end of the schedule with any optimizer
    and at any learning rate.

    The state (the step, the offsets, where the gates began) consists of
    variables that change in calls for training, as averages of batch
    normalization do: saving, resuming, custom loops, `tf.distribute` and JAX
    need nothing else.

    `l0keras.sparsify(target=...)` makes it, and `l0keras.strip` drops it.

    Source: own; the gates are those of Louizos, Welling and Kingma, ICLR 2018
    (arXiv:1712.01312), the constrained problem that of Gallego-Posada et al.,
    NeurIPS 2022 (arXiv:2208.04425), the schedule that of Zhu and Gupta, 2017
    (arXiv:1710.01878).

    Args:
        units: as in `GateGenerator`.
        steps: the number of steps in training, at least 1. The gates have
            settled then; further steps keep to the budget.
        budgets: how many budgets there are, at least 1; `set_budgets` says
            which.
        dependence, inputs, seed: as in `GateGenerator`.
        droprate_init: the share of units dropped at the start, in (0, 1), one
            number or one for each layer.

    Input shape: any; only that there is an input counts.

    Output shape: a list of `(size,)`, in the order of `units`; float32
        whatever the dtype policy is.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> budget = GateBudget([16, 32], steps=1000)
    >>> terms = [(9, [(3, {}), (0, {0: 1})]), (9, [(0, {0: 1}), (0, {1: 1})])]
    >>> budget.set_budgets([ExpectedCost(terms, [16, 32])], [1000.0])
    >>> first, second = budget(inputs, training=True)
    """

    # Only how gates move counts, so nothing is gained by keeping them near.
    bias_constraint = None

    def __init__(
        self,
        units,
        steps=1,
        budgets=1,
        dependence=None,
        inputs=None,
        droprate_init=0.05,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            units, dependence, inputs, droprate_init, seed=seed, **kwargs
        )
        check_steps(steps)
        self.steps = int(steps)
        self.budgets = budgets
        self._starts = np.repeat(self._means, self.units).astype("float32")
        self.costs, self.at_most, self.targets = [], [], []

    def set_budgets(self, costs, at_most, targets=()):
        """Says what has to be kept to.

        Args:
            costs: a list of `regularizers.ExpectedCost`, whose prices do not
                matter, all with the hard concrete constants of the gates.
            at_most: a list of as many numbers: the largest expected cost.
            targets: the same as `l0keras.targets.Target`s with `at_most`,
                one for each; they are only kept, for `l0keras.cut`.

        Raises:
            ValueError: not as many as there are `budgets`, or costs of other
                gates.
        """
        if not len(costs) == len(at_most) == self.budgets:
            raise ValueError(
                f"Arguments `costs` and `at_most` must have {self.budgets} "
                f"entries. Received: {len(costs)} and {len(at_most)}"
            )
        for cost in costs:
            if cost.units != self.units:
                raise ValueError(
                    "Argument `costs` must be for the gates of this layer, of "
                    f"units={self.units}. Received: a cost for "
                    f"units={cost.units}"
                )
        self.costs = list(costs)
        self.at_most = [float(number) for number in at_most]
        self.targets = list(targets)
        # Which gates have a part in which budget.
        self._parts = np.array([cost.gated() for cost in costs], "float32")
        self._limits = np.array(self.at_most, "float32")
        self._full = np.array(self.full_costs(), "float32")

    def full_costs(self):
        """The costs with all gates open, a list of floats."""
        every = np.ones(sum(self.units))
        return [cost.of_open(every) for cost in self.costs]

    def build(self, input_shape):
        super().build(input_shape)
        total = sum(self.units)

        def state(name, shape, dtype="float32"):
            return self.add_weight(
                name=name,
                shape=shape,
                initializer="zeros",
                dtype=dtype,
                trainable=False,
                autocast=False,
                # All replicas come to the same.
                aggregation="only_first_replica",
            )

        self.step = state("step", (), "int32")
        self.origin = state("origin", (total,))
        self.offsets = state("offsets", (self.budgets,))

    # === What the gates are ===

    def _raw(self):
        """What training moves, for all gates one after another."""
        return ops.concatenate(self._made())

    def _progress(self):
        """How far the schedule is, in [0, 1]."""
        share = ops.cast(self.step, "float32") / self.steps
        return ops.clip((share - BEGIN) / (ARRIVAL - BEGIN), 0.0, 1.0)

    def _learned(self):
        """`log_alpha` before the offsets."""
        began = ops.cast(ops.convert_to_tensor(self.step) > 0, "float32")
        moved = (self._raw() - ops.convert_to_tensor(self.origin)) * began
        apart = ops.stop_gradient(moved)
        apart = apart - ops.mean(apart)
        spread = ops.sqrt(ops.mean(ops.square(apart)))
        # Nothing has moved at the start.
        apart = apart / ops.where(spread > 0, spread, 1.0)
        scale = SPREAD * self._progress()
        # Gradients as if nothing were scaled: those of the gates would grow
        # beyond all others, and clipping by the norm of all would stop these.
        return self._starts + scale * apart + _only_gradient(self._raw())

    def log_alphas(self):
        """The `log_alpha` of all gates, float32 tensors `(size,)`."""
        learned = self._learned()
        if self.costs:
            offsets = ops.convert_to_tensor(self.offsets)
            learned = learned - self._shift(offsets)
        return self._split(learned)

    def _shift(self, offsets):
        return ops.sum(offsets[:, None] * self._parts, axis=0)

    def _sharing(self, offsets):
        """How many budgets move the same gates at once, for each budget.

        Each would go the whole way alone, and all of them together too far.
        """
        active = ops.cast(offsets > 0, "float32")
        several = ops.sum(active[:, None] * self._parts, axis=0)
        return ops.maximum(ops.max(several * self._parts, axis=1), 1.0)

    # === The budgets ===

    def allowed(self):
        """What the schedule allows at this step, a tensor `(budgets,)`."""
        left = (1.0 - self._progress()) ** 3
        return self._limits + (self._full - self._limits) * left

    def expected(self, log_alphas=None):
        """The expected costs at this step, a tensor `(budgets,)`."""
        if log_alphas is None:
            log_alphas = self.log_alphas()
        probs = self.costs[0].probs(log_alphas)
        return ops.stack([cost.cost(probs) for cost in self.costs])

    def call(self, inputs, training=False):
        if not (training and self.trainable and self.costs):
            return self.log_alphas()
        first = ops.convert_to_tensor(self.step) == 0
        origin = ops.convert_to_tensor(self.origin)
        self.origin.assign(ops.where(first, self._raw(), origin))
        learned = self._learned()
        offsets = ops.convert_to_tensor(self.offsets)
        cost = self.expected(self._split(learned - self._shift(offsets)))
        further = self._shift(offsets + _PROBE)
        less = self.expected(self._split(ops.stop_gradient(learned) - further))
        now = ops.stop_gradient(cost)
        slope = (now - less) / _PROBE
        slope = ops.maximum(slope, 1e-6 * self._full) * self._sharing(offsets)
        change = (now - self.allowed()) / slope
        moved = offsets + ops.clip(change, -_MOST, _MOST)
        moved = ops.maximum(moved, 0.0)
        self.offsets.assign(moved)
        self.step.assign_add(1)
        # The offsets stay the same function of the gates to first order.
        follow = ops.cast(moved > 0, "float32") / slope
        moved = moved + follow * _only_gradient(cost)
        return self._split(learned - self._shift(moved))

    def compute_output_spec(self, inputs, training=False):
        return super().compute_output_spec(inputs)

    def get_config(self):
        config = super().get_config()
        del config["penalty"]
        return {
            **config,
            "steps": self.steps,
            "budgets": self.budgets,
            "costs": [
                keras.saving.serialize_keras_object(cost) for cost in self.costs
            ],
            "at_most": self.at_most,
            "targets": [
                keras.saving.serialize_keras_object(target)
                for target in self.targets
            ],
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        costs, targets = (
            list(map(keras.saving.deserialize_keras_object, config.pop(name)))
            for name in ("costs", "targets")
        )
        at_most = config.pop("at_most")
        layer = cls(**config)
        if costs:
            layer.set_budgets(costs, at_most, targets)
        return layer


def check_steps(steps):
    whole = isinstance(steps, numbers.Integral) and not isinstance(steps, bool)
    if not whole or steps < 1:
        raise ValueError(
            "Argument `steps` must be an integer of at least 1, the number of "
            f"steps in training. Received: steps={steps!r}"
        )


def _only_gradient(x):
    """Zeros with the gradient of a tensor."""
    return x - ops.stop_gradient(x)
