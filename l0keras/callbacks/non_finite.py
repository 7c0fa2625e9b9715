class NonFiniteError(FloatingPointError):
    """A loss or a weight became NaN or infinite while training."""
