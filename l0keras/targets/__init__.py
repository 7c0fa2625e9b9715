"""Sizes to ask for: what a model may cost once it is cut."""

from l0keras.targets.connectivity import connectivity_for
from l0keras.targets.size import size_of
from l0keras.targets.size import sizes_of
from l0keras.targets.surrogate import Surrogate
from l0keras.targets.surrogate import surrogate_of
from l0keras.targets.target import Target
from l0keras.targets.target import as_targets
from l0keras.targets.yardstick import Yardstick

__all__ = [
    "Surrogate",
    "Target",
    "Yardstick",
    "as_targets",
    "connectivity_for",
    "size_of",
    "sizes_of",
    "surrogate_of",
]
