"""Reasons that several models of the corpus have."""

NORMALIZED = (
    "layer normalization needs all channels that it reads, and so all of a "
    "residual stream stay"
)
CAUSAL = "a causal mask of a length that is not known is not opened"
