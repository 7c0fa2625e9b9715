"""Whether two models compute the same, tried on random inputs."""

from l0keras.proof.inputs import random_array
from l0keras.proof.verify import verify

__all__ = ["random_array", "verify"]
