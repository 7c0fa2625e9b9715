"""What steps along the gradients, and how far at which epoch."""

import keras

from l0keras.optimizers import OptimizerGroups

# In the paths of the variables that gates are made of.
GATES = "log_alpha|gate_generator"


def make_optimizer(config, steps):
    """The optimizer of an experiment.

    Args:
        config: a `Config`.
        steps: the number of steps in an epoch.

    Returns:
        A `keras.optimizers.Optimizer`; where the gates have a learning rate
        of their own, `OptimizerGroups` of Adam for them and of the one that
        the settings name for the weights.
    """
    average = {}
    if config.ema_momentum:
        average = {"use_ema": True, "ema_momentum": config.ema_momentum}
    rate = piecewise_constant(
        config.learning_rate, config.lr_decay, config.lr_boundaries, steps
    )
    if config.optimizer == "adam":
        weights = keras.optimizers.Adam(rate, **average)
    else:
        weights = keras.optimizers.SGD(
            rate, config.momentum, config.nesterov, **average
        )
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
