import collections

import keras
import numpy as np
from keras import ops

from l0keras.connections.choose import check_at_least_0
from l0keras.optimizers.rules import apply_rules
from l0keras.optimizers.rules import check_rules
from l0keras.optimizers.wrapped_optimizer import WrappedOptimizer
from l0keras.regularizers import GroupRegularizer
from l0keras.regularizers.group_regularizer import check_count
from l0keras.regularizers.group_regularizer import count_of
from l0keras.regularizers.group_regularizer import root
from l0keras.regularizers.weight_groups import WeightGroups

# What makes zeros, in the order in which it may.
PROX, HALF_SPACE, TOP_K = range(3)
STAGES = ("prox", "half_space", "top_k")


@keras.saving.register_keras_serializable("l0keras")
class ProximalSGD(WrappedOptimizer):
    """Stochastic proximal gradient steps: groups of weights become 0.

    Trains loss + sum_l strength_l * regularizer_l(groups of l). One step:

    1. The inner optimizer makes its step along the gradient of the loss.
    2. The groups are replaced by the prox of lr * strength * regularizer,
       with the learning rate of that step, so that a schedule applies.

    The inner optimizer may be any: `SGD` with momentum, Nesterov's or not, or
    Adam with its variances, of which the prox knows nothing: it is that of
    the Euclidean distance.

    With `keep_at` there is a last stage: at that step exactly k groups stay,
    those of the largest norms (as the regularizer weights them), or what is
    left where that are fewer; all others are 0 from then on, and what stays is
    trained without the penalty.

    Source: Refael, Arbel and Huleihel, TMLR 2024 (arXiv:2212.12921), for the
    envelope `WGSEF` (the listings of whose algorithms were not at hand); the
    step itself is Xiao and Zhang, SIAM Journal on Optimization 24 (2014),
    2057-2075, without their variance reduction.

    Args:
        inner: a `keras.optimizers.Optimizer` that is not yet built.
        groups: a list of `WeightGroups`, see `l0keras.weight_groups`.
        regularizer: a `GroupRegularizer`, such as `WGSEF` or `GroupLasso`; or
            rules: a list of pairs of a regular expression and one, or a
            dictionary. The first that is found in the name of a
            `WeightGroups` (by `re.search`) applies.
        strength: lambda, a number of at least 0, or rules.
        keep_at: the number of steps after which exactly k groups stay, or
            `None` for never. Steps count from 0.
        keep: k, a number of groups, an integer, or a share of them in (0, 1],
            a float, or rules; `None` for the k of the regularizer.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer; averages of
            groups that are 0 are 0.

    Raises:
        ValueError: an argument out of its range. On build: a rule that takes
            no groups, groups of variables that do not train, or a regularizer
            that does not fit their number.

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
                "Argument `groups` must be a list of `WeightGroups`, as "
                f"`l0keras.weight_groups` returns it. Received: groups={groups}"
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
                    "`keep_at`, where the regularizer, unlike `WGSEF`, does "
                    f"not. Received: keep=None with {type(own).__name__} for "
                    f"{group.name!r}"
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
        for groups, (regularizer, strength, asked) in zip(
            self._groups, self._settings
        ):
            own = [_find(path, variables) for path in groups.paths]
            for variable, index in zip(own, groups.indices):
                _check_fits(variable, index, taken)
            sizes = groups.weights([v.shape for v in own])
            zeros = self.add_variable(
                (len(STAGES),), "zeros", "int32", name=f"{groups.name}_zeros"
            )
            penalized.append(
                _Penalized(
                    groups, own, regularizer, strength, asked, sizes, zeros
                )
            )
        self._penalized = collections.deque(penalized)

    # === Steps ===

    def _stage(self):
        """The stage of this step: a number, or a tensor."""
        if self.keep_at is None:
            return PROX
        return ops.where(self._iterations < self.keep_at, PROX, TOP_K)

    def _correct(self, learning_rate, is_step):
        stage = self._stage()
        for index, penalized in enumerate(self._penalized):
            values = [ops.convert_to_tensor(v) for v in penalized.variables]
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
        """What each group is multiplied by in the end of a step."""
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
        """All but the largest groups are 0; what was 0 before stays so."""
        penalized = self._penalized[index]
        # Momentum may just have moved some that were 0. After the first time
        # those that are left are the largest.
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
        """The weights before the step, for what depends on them after it."""
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
            values = [ops.convert_to_tensor(v) for v in penalized.variables]
            alive = penalized.groups.dot(values, values) > 0
            factors = ops.cast(alive, values[0].dtype)
            for variable, own in zip(
                penalized.variables, penalized.groups.spread(factors)
            ):
                average = averages[self._var_key(variable)]
                average.assign(ops.convert_to_tensor(average) * own)

    # === What a caller can read ===

    def zero_groups(self):
        """How many groups are 0, and in which stage they became it.

        Returns:
            A list of dictionaries, one for each `WeightGroups`: `name`,
            `groups` (how many there are), `asked` (how many `keep` or the
            regularizer asks to keep, `None` if neither does), `kept`, and how
            many became 0 by the steps of each stage, `prox`, `half_space` and
            `top_k`. Groups that were 0 from the start count as of the first
            stage.

        Raises:
            ValueError: the optimizer is not built.
        """
        self._check_built()
        return [penalized.counts() for penalized in self._penalized]

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


class _Penalized:
    """Groups of weights with all that is known of them in one training."""

    def __init__(
        self, groups, variables, regularizer, strength, asked, sizes, zeros
    ):
        self.groups = groups
        # Not a list, in which Keras would look for state.
        self.variables = collections.deque(variables)
        self.regularizer = regularizer
        self.strength = strength
        # How many groups to keep, or None.
        self.asked = asked
        self.sizes = sizes
        self.zeros = zeros
        self.before = self.was = None

    def counts(self):
        values = [ops.convert_to_tensor(v) for v in self.variables]
        norms = ops.convert_to_numpy(self.groups.dot(values, values))
        found = {
            "name": self.groups.name,
            "groups": self.groups.size,
            "asked": self.asked,
            "kept": int(np.sum(norms > 0)),
        }
        before = 0
        for stage, count in zip(STAGES, ops.convert_to_numpy(self.zeros)):
            # A stage that did not happen has no count of its own.
            found[stage] = max(int(count) - before, 0)
            before = max(before, int(count))
        return found


def _asked(regularizer, keep, groups):
    """How many groups to keep, `None` where nothing says it."""
    if keep is not None:
        return count_of("keep", keep, groups)
    if hasattr(regularizer, "groups_to_keep"):
        return regularizer.groups_to_keep(groups)
    return None


def check_step(name, step):
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


def _find(path, variables):
    """The variable of a path; loaded models may lack their names in it."""
    ends = [
        v
        for v in variables
        if v.path == path
        or v.path.endswith("/" + path)
        or path.endswith("/" + v.path)
    ]
    exact = [v for v in ends if v.path == path] or ends
    if len(exact) != 1:
        raise ValueError(
            "Argument `groups` must be groups of the trainable variables of "
            "the model that is trained. Received: "
            f"{path!r}, which is {len(exact)} of "
            f"{[variable.path for variable in variables]}"
        )
    return exact[0]


def _check_fits(variable, index, taken):
    try:
        fits = len(index.shape) == len(variable.shape) and (
            np.broadcast_shapes(index.shape, tuple(variable.shape))
            == tuple(variable.shape)
        )
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            "Argument `groups` must fit the variables of the model that is "
            f"trained. Received: groups of shape {index.shape} for "
            f"{variable.path!r} of shape {tuple(variable.shape)}"
        )
    mask = taken.setdefault(variable.path, np.zeros(variable.shape, bool))
    own = np.broadcast_to(index >= 0, mask.shape)
    if np.any(mask & own):
        raise ValueError(
            "Argument `groups` must have each weight in one group at most. "
            f"Received: several with weights of {variable.path!r}"
        )
    mask |= own


def _serialized(regularizer):
    if isinstance(regularizer, list):
        return [(regex, _serialized(one)) for regex, one in regularizer]
    return keras.saving.serialize_keras_object(regularizer)


def _deserialized(regularizer, custom_objects):
    return keras.saving.deserialize_keras_object(
        regularizer, custom_objects=custom_objects
    )
