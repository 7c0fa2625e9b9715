import collections
import re

import keras


@keras.saving.register_keras_serializable("l0keras")
class OptimizerGroups(keras.optimizers.Optimizer):
    """Trains groups of variables by optimizers of their own.

    Each trainable variable belongs to the first group whose regular
    expression is found in the variable's `path` (by `re.search`), so `"."` as
    the last group takes what is left. A group's optimizer brings its own
    schedule, momentum, weight decay, clipping (norms are those of the group)
    and averages of weights, and does what it would do alone.

    A path has the names of layers and of the variable, as `conv1/kernel` or
    `conv1_gate/log_alpha`. In a new `Sequential` it starts with the model's
    name, in the same model loaded from a file it does not: a regular
    expression had better ask for neither (no `^`, and not that name).

    Unlike `keras.optimizers.MultiOptimizer` it has no default: a variable
    that no group takes is an error, and so is a group that takes none, which
    mostly is a misspelled name.

    `learning_rate` is that of the first group, for callbacks that log one.

    Source: for weights and gates, Li and Ji, ECML-PKDD 2021
    (arXiv:2107.00070), where SGD trains the former and Adam the latter.

    Args:
        groups: a list of pairs of a regular expression and a
            `keras.optimizers.Optimizer`, each another one.
        name: a string, or `None`.

    Attributes:
        optimizers: the optimizers, in the order of the groups.

    Raises:
        ValueError: `groups` is something else. On build: a variable without a
            group, or a group without a variable.

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
        # A function, or else there would be a variable that nobody reads.
        super().__init__(lambda: groups[0][1].learning_rate, name=name)
        # Keras looks into lists and saves the optimizers that it finds there;
        # but they are saved already, among this one's variables.
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
            "The groups have learning rates of their own: set "
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
        # Only now, or there would be averages twice.
        self.use_ema = any(one.use_ema for one in self.optimizers)

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
                f"{[variable.path for variable in variables]} that an "
                "earlier group has not taken"
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
        """The averages, `None` for variables whose group keeps none."""
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
    """A step without gradients, which `apply` refuses to make."""
    # An average that never saw its variable would be 0.
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
        try:
            re.compile(regex)
        except re.error as error:
            raise ValueError(
                "Argument `groups` must have regular expressions. "
                f"Received: {regex!r}, {error}"
            ) from None
        scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if scales or optimizer.loss_scale_factor is not None:
            raise ValueError(
                "Argument `groups` must have optimizers that do not scale the "
                "loss, which is one for all of them: wrap the groups in a "
                f"`LossScaleOptimizer` instead. Received: {optimizer.name!r} "
                f"for {regex!r}"
            )
    if not groups or len({id(one) for _, one in groups}) < len(groups):
        raise ValueError(
            "Argument `groups` must have at least one group, and another "
            f"optimizer for each. Received: groups={groups}"
        )
    return groups


def checked(optimizer, grads, trainable_variables):
    """What `apply` of an optimizer of optimizers begins with.

    As in Keras it builds the optimizer in its first step, and leaves out
    variables without a gradient.

    Args:
        optimizer: a `keras.optimizers.Optimizer`.
        grads, trainable_variables: the arguments of its `apply`.

    Returns:
        Gradients and their variables, two lists of the same length.

    Raises:
        ValueError: no variables, unknown ones, or not one gradient for each.
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
    """An optimizer, or those inside it, as far as they are of some kinds.

    Args:
        optimizer: a `keras.optimizers.Optimizer`, which may be made of others.
        kinds: a class, or a tuple of classes.

    Returns:
        A list, without optimizers that are not yet built.
    """
    if isinstance(optimizer, kinds):
        # Before the first step there is nothing to read.
        return [optimizer] if optimizer.built else []
    inner = getattr(optimizer, "optimizers", ())
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inner = (optimizer.inner_optimizer,)
    return [found for one in inner for found in optimizers_of(one, kinds)]
