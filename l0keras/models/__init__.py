"""The papers' networks, plain or with gates."""

from l0keras.models.lenet5 import lenet5
from l0keras.models.mlp import mlp

__all__ = ["lenet5", "mlp"]
