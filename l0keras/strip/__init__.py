"""Strip: from a model with closed channels to a smaller plain model."""

from l0keras.strip.plan import plan
from l0keras.strip.strip import strip

__all__ = ["plan", "strip"]
