"""Penalties whose minimum is a smaller network."""

from l0keras.regularizers.expected_cost import ExpectedCost
from l0keras.regularizers.l0 import L0

__all__ = ["ExpectedCost", "L0"]
