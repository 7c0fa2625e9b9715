import keras
from keras import ops

from l0keras.optimizers.penalized_groups import HALF_SPACE
from l0keras.optimizers.penalized_groups import PROX
from l0keras.optimizers.penalized_groups import TOP_K
from l0keras.optimizers.proximal_sgd import ProximalSGD
from l0keras.optimizers.proximal_sgd import check_step
from l0keras.optimizers.regex_rules import apply_rules
from l0keras.optimizers.regex_rules import check_rules
from l0keras.replicas import num_replicas


@keras.saving.register_keras_serializable("l0keras")
class HSPG(ProximalSGD):
    """Half-space stochastic projected gradient, after proximal steps.

    Trains the same sum of a loss and penalties as `ProximalSGD`, and makes
    the same first `switch_at` steps. Each later step:

    1. The inner optimizer makes its step along the gradient of the loss and
       of the penalty, x -> y.
    2. A group that leaves the half-space of its last weights,
       <x_g, y_g> < epsilon * |x_g|^2, becomes 0.
    3. A group that was 0 before the step is set to 0 again, so it stays 0.

    With `WGSEF` and `switch_at` after half of the steps this is the recipe of
    Refael, Arbel and Huleihel.

    Source: Chen et al., Only-Train-Once, NeurIPS 2021 (arXiv:2107.07467), for
    the half-space projection; their first stage has subgradient steps, not
    proximal ones. Refael, Arbel and Huleihel, TMLR 2024 (arXiv:2212.12921),
    for the recipe.

    Args:
        inner, groups, regularizer, strength, keep_at, keep: see
            `ProximalSGD`.
        epsilon: a number in [0, 1), or rules by the names of groups. With 0 a
            group becomes 0 when its step crosses the hyperplane through 0;
            with a number near 1 it becomes 0 when it shrinks a little.
        switch_at: the number of proximal steps, at least 0.
        name, use_ema, ema_momentum: as in every Keras optimizer.

    Raises:
        ValueError: see `ProximalSGD`; `epsilon` outside [0, 1), or `keep_at`
            before `switch_at`.

    Example:

    >>> optimizer = HSPG(
    ...     keras.optimizers.SGD(0.01, momentum=0.9),
    ...     l0keras.weight_groups(model),
    ...     l0keras.regularizers.WGSEF(k=0.2),
    ...     strength=1e-2,
    ...     epsilon=[("fc", 0.9), (".", 0.0)],
    ...     switch_at=5_000,
    ... )
    """

    def __init__(
        self,
        inner,
        groups,
        regularizer,
        strength=1e-2,
        epsilon=0.0,
        switch_at=0,
        keep_at=None,
        keep=None,
        name=None,
        use_ema=False,
        ema_momentum=0.99,
    ):
        epsilon = check_rules("epsilon", epsilon, _check_epsilon)
        if switch_at is None:
            raise ValueError(
                "Argument `switch_at` must be a number of steps; to train "
                "without a second stage use `ProximalSGD`. "
                "Received: switch_at=None"
            )
        switch_at = check_step("switch_at", switch_at)
        super().__init__(
            inner,
            groups,
            regularizer,
            strength,
            keep_at,
            keep,
            name,
            use_ema,
            ema_momentum,
        )
        self.epsilon = epsilon
        self.switch_at = switch_at
        if keep_at is not None and keep_at < switch_at:
            raise ValueError(
                "Argument `keep_at` must not be before `switch_at`. "
                f"Received: keep_at={keep_at}, switch_at={switch_at}"
            )
        names = [group.name for group in self._groups]
        self._epsilons = apply_rules("epsilon", self.epsilon, names)

    def _settles_at(self):
        return self.switch_at

    def _stage(self):
        stage = ops.where(self._iterations < self.switch_at, PROX, HALF_SPACE)
        if self.keep_at is None:
            return stage
        return ops.where(self._iterations < self.keep_at, stage, TOP_K)

    def _prepared(self, grads, variables):
        self._remember()
        along = ops.equal(self._stage(), HALF_SPACE)
        added = {}
        # The inner optimizer adds up the gradients of all replicas.
        share = 1 / num_replicas()
        for penalized in self._penalized:
            slope = ops.cond(
                along,
                lambda p=penalized: p.regularizer.slope(p.was, p.sizes),
                lambda p=penalized: ops.zeros_like(p.was),
            )
            slope = slope * (penalized.strength * share)
            for variable, value, own in zip(
                penalized.variables,
                penalized.before,
                penalized.groups.spread(slope, outside=0.0),
            ):
                key = self._var_key(variable)
                added[key] = added.get(key, 0.0) + value * own
        return [
            g + added[key] if (key := self._var_key(v)) in added else g
            for g, v in zip(grads, variables)
        ]

    def _factors(self, index, stage, values, norms, learning_rate):
        def later():
            if self.keep_at is None:
                return self._half_space(index, values, norms)
            return ops.cond(
                ops.equal(stage, HALF_SPACE),
                lambda: self._half_space(index, values, norms),
                lambda: self._keep(index, norms),
            )

        return ops.cond(
            ops.equal(stage, PROX),
            lambda: self._prox(index, norms, learning_rate),
            later,
        )

    def _half_space(self, index, values, norms):
        penalized = self._penalized[index]
        inner = penalized.groups.dot(values, penalized.before)
        limit = self._epsilons[index] * ops.square(penalized.was)
        inside = ops.logical_and(inner >= limit, penalized.was > 0)
        return ops.cast(inside, norms.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "switch_at": self.switch_at,
        }


def _check_epsilon(value):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ValueError(
            f"Argument `epsilon` must lie in [0, 1). Received: epsilon={value}"
        )
    return float(value)
