"""Penalties whose minimum is a smaller network."""

from l0keras.regularizers.expected_cost import ExpectedCost
from l0keras.regularizers.group_lasso import GroupLasso
from l0keras.regularizers.group_regularizer import GroupRegularizer
from l0keras.regularizers.l0 import L0
from l0keras.regularizers.wgsef import WGSEF

__all__ = ["ExpectedCost", "GroupLasso", "GroupRegularizer", "L0", "WGSEF"]
