"""Sizes to ask for: what a model may cost once it is cut."""

from l0keras.targets.target import Target

__all__ = ["Target"]
