"""Optimizers that Keras does not have."""

from l0keras.optimizers.optimizer_groups import OptimizerGroups

__all__ = ["OptimizerGroups"]
