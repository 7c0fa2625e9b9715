import collections
import re

import keras

from l0keras.compile_settings import fresh_optimizer
from l0keras.connections.arguments import check_regex


@keras.saving.register_keras_serializable("l0keras")
class OptimizerGroups(keras.optimizers.Optimizer):
    """Trains each group of variables by an optimizer of its own.

    Each trainable variable belongs to the first group whose regular
    expression is found in the variable's `path` (by `re.search`), so a last
    group `"."` takes all other variables. The optimizer of a group brings its
    own schedule, momentum, weight decay, clipping (by norms of its group) and
    averages of weights, and makes the same steps as it would alone.

    A path has the names of layers and of the variable, such as `conv1/kernel`
    or `conv1_gate/log_alpha`. The path in a new `Sequential` starts with the
    name of the model, and the path in the same model loaded from a file does
    not: write regular expressions that find both (without `^` and without the
    name of the model).

    Unlike `keras.optimizers.MultiOptimizer` it has no default optimizer: a
    variable without a group is an error, and so is a group without a
    variable, mostly a misspelled name.

    `learning_rate` is that of the first group, for callbacks that log one.

    Source: for weights and gates, Li and Ji, ECML-PKDD 2021
    (arXiv:2107.00070), where SGD trains the former and Adam the latter.

    Args:
        groups: a list of pairs of a regular expression and a
            `keras.optimizers.Optimizer`. No two pairs share an optimizer.
        name: a string, or `None`.

    Attributes:
        optimizers: the optimizers, in the order of the groups.

    Raises:
        ValueError: `groups` is not as above. On build: a variable has no
            group, or a group has no variable.

    Example:

    >>> optimizer = OptimizerGroups(
    ...     [
    ...         ("log_alpha", keras.optimizers.Adam(1e-3)),
    ...         (".", keras.optimizers.SGD(0.05, momentum=0.9)),
    ...     ]
    ... )
    >>> model.compile(optimizer, loss="mse")
    """

    def __init__(self, groups, name=None):
        groups = _checked(groups)
        # For a number Keras would make a variable that nobody reads.
        super().__init__(lambda: groups[0][1].learning_rate, name=name)
        # Keras finds optimizers in lists, and would save these a second time:
        # `build` tracks their variables as own ones.
        self._groups = collections.deque(groups)
        self._group_of = {}

    @property
    def optimizers(self):
        return collections.deque(optimizer for _, optimizer in self._groups)

    @property
    def learning_rate(self):
        return self._groups[0][1].learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        raise AttributeError(
            "Each group has its own learning rate: set "
            "`optimizer.optimizers[i].learning_rate` instead. "
            f"Received: learning_rate={value}"
        )

    def build(self, variables):
        if self.built:
            return
        members = self._members(variables)
        for index, (optimizer, own) in enumerate(zip(self.optimizers, members)):
            with keras.name_scope(optimizer.name):
                optimizer.build(own)
            for variable in optimizer.variables:
                self._track_variable(variable)
            for variable in own:
                self._group_of[self._var_key(variable)] = index
        super().build(variables)
        # After `build`, which would make averages of its own.
        self.use_ema = any(one.use_ema for one in self.optimizers)

    def for_parts(self, parts):
        """A new optimizer like this one, for what is left of the variables.

        Args:
            parts: see `WeightGroups.of_parts`.
        """
        groups = [
            (regex, fresh_optimizer(optimizer, parts))
            for regex, optimizer in self._groups
        ]
        return type(self)(groups, name=self.name)

    def _members(self, variables):
        members = [[] for _ in self._groups]
        missed = []
        for variable in variables:
            for (regex, _), own in zip(self._groups, members):
                if re.search(regex, variable.path):
                    own.append(variable)
                    break
            else:
                missed.append(variable.path)
        empty = [
            regex for (regex, _), own in zip(self._groups, members) if not own
        ]
        if missed:
            raise ValueError(
                "Argument `groups` must have a group for each trainable "
                f"variable. Received: {missed} match none of "
                f"{[regex for regex, _ in self._groups]}"
            )
        if empty:
            raise ValueError(
                "Argument `groups` must have a variable for each group. "
                f"Received: {empty} match none of "
                f"{[variable.path for variable in variables]}, or only "
                "variables that an earlier group takes"
            )
        return members

    def apply(self, grads, trainable_variables=None):
        pairs = zip(*checked(self, grads, trainable_variables))
        each = [[] for _ in self._groups]
        for gradient, variable in pairs:
            index = self._group_of[self._var_key(variable)]
            each[index].append((gradient, variable))
        for optimizer, own in zip(self.optimizers, each):
            if own:
                optimizer.apply(*map(list, zip(*own)))
            else:
                _skip_step(optimizer)
        self._iterations.assign_add(1)

    @property
    def _model_variables_moving_average(self):
        """The average of each variable, or `None` if its group has none."""
        averages = {}
        for optimizer in self.optimizers:
            if optimizer.use_ema:
                averages.update(
                    (self._var_key(variable), average)
                    for variable, average in zip(
                        optimizer._trainable_variables,
                        optimizer._model_variables_moving_average,
                    )
                )
        return [
            averages.get(self._var_key(variable))
            for variable in self._trainable_variables
        ]

    def finalize_variable_values(self, var_list):
        each = [[] for _ in self._groups]
        for variable in var_list:
            each[self._group_of[self._var_key(variable)]].append(variable)
        for optimizer, own in zip(self.optimizers, each):
            optimizer.finalize_variable_values(own)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "groups": [
                [regex, serialize(optimizer)]
                for regex, optimizer in self._groups
            ],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        groups = [
            (
                regex,
                keras.saving.deserialize_keras_object(
                    optimizer, custom_objects=custom_objects
                ),
            )
            for regex, optimizer in config["groups"]
        ]
        return cls(**{**config, "groups": groups})


def _skip_step(optimizer):
    """A step without gradients, which `apply` of Keras refuses."""
    # Without this update the average would start from 0 in the next step.
    optimizer._update_model_variables_moving_average(
        optimizer._trainable_variables
    )
    optimizer._iterations.assign_add(1)


def _checked(groups):
    groups = [tuple(group) for group in groups]
    for group in groups:
        if (
            len(group) != 2
            or not isinstance(group[0], str)
            or not isinstance(group[1], keras.optimizers.Optimizer)
        ):
            raise ValueError(
                "Argument `groups` must be a list of pairs of a regular "
                "expression and a Keras optimizer. "
                f"Received: groups={groups}"
            )
        regex, optimizer = group
        check_regex("groups", regex)
        scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if scales or optimizer.loss_scale_factor is not None:
            raise ValueError(
                "Argument `groups` must have optimizers that do not scale the "
                "loss, because all groups train one loss: wrap this optimizer "
                "in a `LossScaleOptimizer` instead. "
                f"Received: {optimizer.name!r} for {regex!r}"
            )
    if not groups or len({id(one) for _, one in groups}) < len(groups):
        raise ValueError(
            "Argument `groups` must have at least one group, and another "
            f"optimizer for each. Received: groups={groups}"
        )
    return groups


def checked(optimizer, grads, trainable_variables):
    """Checks the arguments of `apply`, for an optimizer made of others.

    As in Keras, the first step builds the optimizer, and variables without a
    gradient are left out.

    Args:
        optimizer: a `keras.optimizers.Optimizer`.
        grads, trainable_variables: the arguments of its `apply`.

    Returns:
        Gradients and their variables, two lists of the same length.

    Raises:
        ValueError: the variables are missing or unknown, or their number is
            not that of the gradients.
    """
    if trainable_variables is not None:
        trainable_variables = list(trainable_variables)
        if not optimizer.built:
            with keras.name_scope(optimizer.name):
                optimizer.build(trainable_variables)
        optimizer._check_variables_are_known(trainable_variables)
    elif optimizer.built:
        trainable_variables = optimizer._trainable_variables
    else:
        raise ValueError(
            "Argument `trainable_variables` must be the variables of "
            "`grads` as long as the optimizer is not built. "
            "Received: trainable_variables=None"
        )
    if len(grads) != len(trainable_variables):
        raise ValueError(
            "Argument `grads` must have one gradient for each of the "
            f"{len(trainable_variables)} variables. "
            f"Received: {len(grads)} gradients"
        )
    return optimizer._filter_empty_gradients(grads, trainable_variables)


def optimizers_of(optimizer, kinds):
    """Finds the built optimizers of a class, in an optimizer made of others.

    Args:
        optimizer: a `keras.optimizers.Optimizer`, which may be made of others.
        kinds: a class, or a tuple of classes.

    Returns:
        A list. It may have `optimizer` itself, and it has no optimizer that
        is not built.
    """
    if isinstance(optimizer, kinds):
        # An optimizer has no state before the first step.
        return [optimizer] if optimizer.built else []
    inner = getattr(optimizer, "optimizers", ())
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inner = (optimizer.inner_optimizer,)
    return [found for one in inner for found in optimizers_of(one, kinds)]
