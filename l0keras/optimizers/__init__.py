"""Optimizers that Keras does not have."""

from l0keras.connections.initial_connections import init_sparse
from l0keras.optimizers.deep_r import DeepR
from l0keras.optimizers.hold_zeros import HoldZeros
from l0keras.optimizers.hspg import HSPG
from l0keras.optimizers.optimizer_groups import OptimizerGroups
from l0keras.optimizers.optimizer_groups import optimizers_of
from l0keras.optimizers.proximal_sgd import ProximalSGD
from l0keras.optimizers.soft_deep_r import SoftDeepR
from l0keras.optimizers.wrapped_optimizer import WrappedOptimizer

__all__ = [
    "DeepR",
    "HSPG",
    "HoldZeros",
    "OptimizerGroups",
    "ProximalSGD",
    "SoftDeepR",
    "WrappedOptimizer",
    "init_sparse",
    "optimizers_of",
]
