import collections

import keras
import numpy as np
from keras import ops

from l0keras.connections.arguments import check_at_least_0
from l0keras.optimizers.penalized_groups import PROX
from l0keras.optimizers.penalized_groups import STAGES
from l0keras.optimizers.penalized_groups import TOP_K
from l0keras.optimizers.penalized_groups import PenalizedGroups
from l0keras.optimizers.regex_rules import apply_rules
from l0keras.optimizers.regex_rules import check_rules
from l0keras.optimizers.wrapped_optimizer import WrappedOptimizer
from l0keras.regularizers import GroupRegularizer
from l0keras.regularizers.group_regularizer import check_count
from l0keras.regularizers.group_regularizer import count_of
from l0keras.regularizers.group_regularizer import root
from l0keras.regularizers.weight_groups import WeightGroups


@keras.saving.register_keras_serializable("l0keras")
class ProximalSGD(WrappedOptimizer):
    """Stochastic proximal gradient steps: groups of weights become 0.

    Trains loss + sum_l strength_l * regularizer_l(groups of l). One step:

    1. The inner optimizer makes its step along the gradient of the loss.
    2. The groups are replaced by the prox of lr * strength * regularizer,
       with the learning rate of the current step, so schedules apply.

    Any inner optimizer will do, such as `SGD` with or without momentum, or
    Adam. The prox minimizes the Euclidean distance; it does not scale it by
    the variances of Adam.

    With `keep_at` there is a last stage. At this step the k groups with the
    largest norms (weighted as in the regularizer) stay, or all groups that
    are not 0 if these are fewer. All other groups are 0 from then on, and the
    remaining ones are trained without the penalty.

    Source: Refael, Arbel and Huleihel, TMLR 2024 (arXiv:2212.12921), for the
    envelope `WGSEF`; Xiao and Zhang, SIAM Journal on Optimization 24 (2014),
    2057-2075, for the step, without their variance reduction. The former
    paper served for the definition of the envelope, not for the listings of
    its algorithms: its hyperparameters may need other values here.

    Args:
        inner: a `keras.optimizers.Optimizer` that is not yet built.
        groups: a list of `WeightGroups`, see `l0keras.weight_groups`.
        regularizer: a `GroupRegularizer`, such as `WGSEF` or `GroupLasso`; or
            rules: a list of pairs of a regular expression and a regularizer,
            or a dictionary. The first rule that is found in the name of a
            `WeightGroups` (by `re.search`) applies.
        strength: lambda, a number of at least 0, or rules.
        keep_at: the number of steps after which exactly k groups stay, or
            `None` for never. Steps count from 0.
        keep: k, the number of groups, an integer, or their share in (0, 1],
            a float; or rules for it. `None` for the k of the regularizer.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer; the averages of
            a group that is 0 are 0.

    Raises:
        ValueError: an argument out of its range, a rule without groups, or a
            regularizer that does not fit the number of groups. On build:
            groups of variables that the model does not train.

    Example:

    >>> optimizer = ProximalSGD(
    ...     keras.optimizers.SGD(0.01, momentum=0.9),
    ...     l0keras.weight_groups(model),
    ...     l0keras.regularizers.WGSEF(k=0.2),
    ...     strength=1e-2,
    ... )
    >>> model.compile(optimizer, loss="mse")
    """

    def __init__(
        self,
        inner,
        groups,
        regularizer,
        strength=1e-2,
        keep_at=None,
        keep=None,
        name=None,
        use_ema=False,
        ema_momentum=0.99,
    ):
        groups = list(groups)
        if not groups or not all(isinstance(g, WeightGroups) for g in groups):
            raise ValueError(
                "Argument `groups` must be a list of `WeightGroups`, from "
                f"`l0keras.weight_groups`. Received: groups={groups}"
            )
        regularizer = check_rules(
            "regularizer", regularizer, _check_regularizer
        )
        strength = check_rules(
            "strength", strength, lambda v: check_at_least_0("strength", v)
        )
        check_step("keep_at", keep_at)
        if keep is not None:
            if keep_at is None:
                raise ValueError(
                    "Argument `keep` needs `keep_at`, the step at which to "
                    f"choose. Received: keep={keep}, keep_at=None"
                )
            keep = check_rules("keep", keep, lambda v: check_count("keep", v))
        names = [group.name for group in groups]
        regularizers = apply_rules("regularizer", regularizer, names)
        strengths = apply_rules("strength", strength, names)
        asked = []
        for group, own, k in zip(
            groups, regularizers, apply_rules("keep", keep, names)
        ):
            own.check_groups(group.size)
            asked.append(_asked(own, k, group.size))
            if keep_at is not None and asked[-1] is None:
                raise ValueError(
                    "Argument `keep` must say how many groups to keep at "
                    "`keep_at`, unless the regularizer has a k, such as "
                    f"`WGSEF`. Received: keep=None with {type(own).__name__} "
                    f"for {group.name!r}"
                )
        super().__init__(inner, name, use_ema, ema_momentum)
        self.regularizer = regularizer
        self.strength = strength
        self.keep_at = keep_at
        self.keep = keep
        # Keras looks into lists and tuples for state.
        self._groups = collections.deque(groups)
        self._settings = collections.deque(zip(regularizers, strengths, asked))
        self._penalized = collections.deque()

    # === State ===

    def _build_sparse(self, variables):
        penalized = []
        taken = {}
        for groups, settings in zip(self._groups, self._settings):
            own = PenalizedGroups(groups, variables, *settings, taken)
            own.zeros = self.add_variable(
                (len(STAGES),), "zeros", "int32", name=f"{groups.name}_zeros"
            )
            penalized.append(own)
        self._penalized = collections.deque(penalized)

    @property
    def counts(self):
        """The variables that count groups, not what is in them."""
        return collections.deque(own.zeros for own in self._penalized)

    def for_parts(self, parts):
        """A new optimizer like this one, for what is left of the variables.

        Args:
            parts: see `WeightGroups.of_parts`.
        """
        config = self.get_config()
        config["groups"] = [
            group.of_parts(parts).get_config() for group in self._groups
        ]
        return type(self).from_config(config)

    # === Steps ===

    def _stage(self):
        """The stage of this step: a number, or a tensor."""
        if self.keep_at is None:
            return PROX
        return ops.where(self._iterations < self.keep_at, PROX, TOP_K)

    def _correct(self, learning_rate, is_step):
        stage = self._stage()
        for index, penalized in enumerate(self._penalized):
            values = penalized.values()
            norms = root(penalized.groups.dot(values, values))
            factors = self._factors(index, stage, values, norms, learning_rate)
            if is_step is not True:
                factors = ops.where(is_step, factors, ops.ones_like(factors))
            self._multiply(penalized, values, factors)
            left = ops.logical_and(norms > 0, factors > 0)
            zeros = penalized.groups.size - ops.sum(ops.cast(left, "int32"))
            own = ops.equal(ops.arange(len(STAGES)), stage)
            before = ops.convert_to_tensor(penalized.zeros)
            penalized.zeros.assign(ops.where(own, zeros, before))

    def _factors(self, index, stage, values, norms, learning_rate):
        """The factors that end a step, one for each group."""
        if isinstance(stage, int):
            return self._prox(index, norms, learning_rate)
        return ops.cond(
            ops.equal(stage, PROX),
            lambda: self._prox(index, norms, learning_rate),
            lambda: self._keep(index, norms),
        )

    def _prox(self, index, norms, learning_rate):
        penalized = self._penalized[index]
        mu = ops.cast(learning_rate, norms.dtype) * penalized.strength
        return penalized.regularizer.shrink(norms, mu, penalized.sizes)

    def _keep(self, index, norms):
        """1 for the largest groups, and 0 for groups that were 0 before."""
        penalized = self._penalized[index]
        # Momentum may just have moved groups that were 0. Groups that stay
        # in the first step are the largest in all others.
        alive = ops.cast(penalized.was > 0, norms.dtype)
        sizes = penalized.regularizer.weighted(norms) * alive
        rank = ops.argsort(ops.argsort(-sizes))
        return ops.cast(rank < penalized.asked, norms.dtype) * alive

    def _multiply(self, penalized, values, factors):
        for variable, value, own in zip(
            penalized.variables, values, penalized.groups.spread(factors)
        ):
            variable.assign(value * ops.cast(own, value.dtype))

    def _prepared(self, grads, variables):
        if self.keep_at is not None:
            self._remember()
        return grads

    def _remember(self):
        """Keeps the weights before the step, for the end of the step."""
        for penalized in self._penalized:
            penalized.before = [
                ops.convert_to_tensor(v) * 1 for v in penalized.variables
            ]
            penalized.was = root(
                penalized.groups.dot(penalized.before, penalized.before)
            )

    def _correct_averages(self):
        averages = self._averages()
        for penalized in self._penalized:
            values = penalized.values()
            alive = penalized.groups.dot(values, values) > 0
            factors = ops.cast(alive, values[0].dtype)
            for variable, own in zip(
                penalized.variables, penalized.groups.spread(factors)
            ):
                average = averages[self._var_key(variable)]
                average.assign(ops.convert_to_tensor(average) * own)

    # === Reading the groups ===

    def zero_groups(self):
        """Counts the groups that are 0, by the stage that set them to 0.

        Returns:
            A list of dictionaries, one for each `WeightGroups`, with `name`;
            `groups`, the number of all groups; `asked`, the number of groups
            to keep by `keep` or the regularizer, or `None`; `kept`, the number
            of groups that are not 0; and `prox`, `half_space` and `top_k`, the
            number of groups that each stage set to 0. Groups that were 0 from
            the start count for the first stage.

        Raises:
            ValueError: the optimizer is not built.
        """
        self._check_built()
        return [penalized.counts() for penalized in self._penalized]

    def zeros_for_good(self):
        """The groups that are 0 in a stage that leaves them there."""
        self._check_built()
        step = int(ops.convert_to_numpy(self._iterations))
        if self._settles_at() is None or step <= self._settles_at():
            return {}
        zeros = {}
        for penalized in self._penalized:
            values = penalized.values()
            gone = penalized.groups.dot(values, values) == 0
            own = penalized.groups.spread(
                ops.cast(gone, "float32"), outside=0.0
            )
            for variable, mask in zip(penalized.variables, own):
                known = zeros.get(variable.path, np.zeros(variable.shape, bool))
                zeros[variable.path] = known | (ops.convert_to_numpy(mask) > 0)
        return zeros

    def _settles_at(self):
        """The step from which on groups that are 0 stay 0, or `None`."""
        return self.keep_at

    def get_config(self):
        return {
            **super().get_config(),
            "groups": [group.get_config() for group in self._groups],
            "regularizer": _serialized(self.regularizer),
            "strength": self.strength,
            "keep_at": self.keep_at,
            "keep": self.keep,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["groups"] = [
            WeightGroups.from_config(group) for group in config["groups"]
        ]
        regularizer = config["regularizer"]
        if isinstance(regularizer, list):
            config["regularizer"] = [
                (regex, _deserialized(one, custom_objects))
                for regex, one in regularizer
            ]
        else:
            config["regularizer"] = _deserialized(regularizer, custom_objects)
        return super().from_config(config, custom_objects)


def _asked(regularizer, keep, groups):
    """The number of groups to keep, or `None`."""
    if keep is not None:
        return count_of("keep", keep, groups)
    if hasattr(regularizer, "groups_to_keep"):
        return regularizer.groups_to_keep(groups)
    return None


def check_step(name, step):
    """The number of a step, or `None`; else a `ValueError`."""
    if step is None:
        return None
    whole = isinstance(step, int) and not isinstance(step, bool)
    if not whole or step < 0:
        raise ValueError(
            f"Argument `{name}` must be a number of steps of at least 0. "
            f"Received: {name}={step}"
        )
    return step


def _check_regularizer(regularizer):
    if not isinstance(regularizer, GroupRegularizer):
        raise ValueError(
            "Argument `regularizer` must be a `GroupRegularizer`, such as "
            f"`WGSEF`, or rules for it. Received: regularizer={regularizer!r}"
        )
    return regularizer


def _serialized(regularizer):
    if isinstance(regularizer, list):
        return [(regex, _serialized(one)) for regex, one in regularizer]
    return keras.saving.serialize_keras_object(regularizer)


def _deserialized(regularizer, custom_objects):
    return keras.saving.deserialize_keras_object(
        regularizer, custom_objects=custom_objects
    )
