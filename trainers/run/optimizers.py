"""What steps along the gradients, and how far at which epoch."""

import re

import keras

import l0keras
from l0keras.optimizers import HSPG
from l0keras.optimizers import DeepR
from l0keras.optimizers import OptimizerGroups
from l0keras.optimizers import ProximalSGD
from l0keras.optimizers import SoftDeepR
from l0keras.optimizers import init_sparse
from l0keras.regularizers import WGSEF
from l0keras.regularizers import GroupLasso
from trainers.run.baselines import FixedConnections
from trainers.run.baselines import Shrinkage

# In the paths of the variables that gates are made of.
GATES = "log_alpha|gate_generator"


def make_optimizer(config, steps, model):
    """The optimizer of an experiment.

    Args:
        config: a `Config`.
        steps: the number of steps in an epoch.
        model: the model that it will train. With `method="static"` its
            weights are made sparse.

    Returns:
        A `keras.optimizers.Optimizer`; where the gates have a learning rate
        of their own, `OptimizerGroups` of Adam for them and of the one that
        the settings name for the weights.

    Raises:
        ValueError: connectivities for another number of kernels, or settings
            for another number of groups.
    """
    average = {}
    if config.ema_momentum:
        average = {"use_ema": True, "ema_momentum": config.ema_momentum}
    if config.method == "dense" or config.is_gated:
        weights = _plain(config, steps, **average)
    elif config.has_groups:
        weights = _grouped(config, _plain(config, steps), steps, model, average)
    else:
        weights = _sparse(config, _plain(config, steps), model, average)
    if not config.gate_learning_rate:
        return weights
    rate = piecewise_constant(
        config.gate_learning_rate,
        config.gate_lr_decay,
        config.lr_boundaries,
        steps,
    )
    gates = keras.optimizers.Adam(rate, **average)
    return OptimizerGroups([(GATES, gates), (".", weights)])


def make_tuning_optimizer(config, steps):
    """The optimizer of what was cut, whose schedule goes on.

    Args:
        config, steps: see `make_optimizer`.

    Returns:
        A `keras.optimizers.Optimizer`.
    """
    average = {}
    if config.ema_momentum:
        average = {"use_ema": True, "ema_momentum": config.ema_momentum}
    return _plain(config, steps, config.epochs * steps, **average)


@keras.saving.register_keras_serializable("l0keras.trainers")
class Later(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of which so many steps have passed.

    Args:
        schedule: a Keras schedule.
        steps: a number of steps.
    """

    def __init__(self, schedule, steps):
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step):
        return self.schedule(step + self.steps)

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "steps": self.steps,
        }

    @classmethod
    def from_config(cls, config):
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["steps"])


def _plain(config, steps, passed=0, **average):
    rate = piecewise_constant(
        config.learning_rate, config.lr_decay, config.lr_boundaries, steps
    )
    if config.lr_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            config.learning_rate,
            (config.epochs + config.finetune_epochs) * steps,
        )
    if passed and not isinstance(rate, float):
        rate = Later(rate, passed)
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, **average)
    return keras.optimizers.SGD(
        rate, config.momentum, config.nesterov, **average
    )


def _sparse(config, inner, model, average):
    if config.method == "l1":
        return Shrinkage(inner, config.l1, **average)
    if config.has_target:
        [target] = config.targets
        connectivity = l0keras.targets.connectivity_for(model, target)
    else:
        connectivity = _connectivity(config.connectivity, model)
    seed = config.seed
    if config.method == "static":
        init_sparse(model, connectivity, seed=seed)
        return FixedConnections(inner, **average)
    if config.method == "soft_deep_r":
        return SoftDeepR(
            inner,
            connectivity,
            config.l1,
            config.temperature or None,
            seed=seed,
            **average,
        )
    return DeepR(
        inner,
        connectivity,
        config.l1,
        config.temperature,
        config.budget,
        seed=seed,
        **average,
    )


def _grouped(config, inner, steps, model, average):
    groups = l0keras.weight_groups(model)
    names = [group.name for group in groups]
    # An integer is a number of groups, a float a share of them.
    k = [float(share) for share in config.k]
    if config.has_target:
        keep = l0keras.groups_to_keep(model, config.targets, groups)
        k = list(keep.values())
    regularizer = GroupLasso()
    if config.method == "wgsef":
        regularizer = _by_name("k", k, names, WGSEF)
    strength = _by_name("group_lambda", config.group_lambda, names)
    last = {}
    if config.finetune_epochs:
        last["keep_at"] = config.epochs * steps
        last["keep"] = _by_name("k", k, names, lambda value: value)
    switch = round(config.switch_at * config.epochs)
    if config.method == "group_lasso" or switch == config.epochs:
        return ProximalSGD(
            inner, groups, regularizer, strength, **last, **average
        )
    return HSPG(
        inner,
        groups,
        regularizer,
        strength,
        _by_name("epsilon", config.epsilon, names),
        switch * steps,
        **last,
        **average,
    )


def _by_name(name, values, names, function=float):
    """One value for all groups of weights, or a rule for each."""
    if len(values) == 1:
        return function(values[0])
    if len(values) != len(names):
        raise ValueError(
            f"Argument `{name}` must be one number or one for each of the "
            f"{len(names)} groups of weights: {', '.join(names)}. "
            f"Received: {name}={','.join(map(str, values))}"
        )
    return [
        (f"^{re.escape(own)}$", function(value))
        for own, value in zip(names, values)
    ]


def _connectivity(shares, model):
    """One share for all kernels, or a rule for each."""
    if len(shares) == 1:
        return shares[0]
    kernels = kernels_of(model)
    if len(shares) != len(kernels):
        raise ValueError(
            "Argument `connectivity` must be one number or one for each of "
            f"the {len(kernels)} kernels: {', '.join(k.path for k in kernels)}."
            f" Received: connectivity={','.join(map(str, shares))}"
        )
    return [
        (f"{re.escape(kernel.path)}$", share)
        for kernel, share in zip(kernels, shares)
    ]


def kernels_of(model):
    """What methods of sparse connections make sparse, in order."""
    return [
        variable
        for variable in model.trainable_variables
        if len(variable.shape) > 1 and "kernel" in variable.name
    ]


def piecewise_constant(initial, factor, boundaries, steps):
    """A learning rate that is multiplied by a factor after some epochs.

    Args:
        initial: the learning rate of the first epoch.
        factor: what it is multiplied by.
        boundaries: the numbers of epochs after which it is, ascending.
        steps: the number of steps in an epoch.

    Returns:
        A Keras schedule, or a number where the rate stays the same.
    """
    if not boundaries or factor == 1:
        return initial
    # Keras still takes the value before a boundary in the step of its number,
    # and counts steps from 0.
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [epochs * steps - 1 for epochs in boundaries],
        [initial * factor**index for index in range(len(boundaries) + 1)],
    )
