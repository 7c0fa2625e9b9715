"""Reasons that several models of the corpus have."""

NORMALIZED = (
    "layer normalization needs all channels that it reads, and so all of a "
    "residual stream stay"
)
OWN_WEIGHTS = (
    "a layer with weights of its own beside its sublayers is not opened"
)
CAUSAL = "a causal mask of a length that is not known is not opened"
SCALARS = "channels of scalars, inputs without an axis, are not followed"
