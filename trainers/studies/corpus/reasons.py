"""Reasons that several models of the corpus have."""

NORMALIZED = (
    "layer normalization needs all channels that it reads, and so all of a "
    "residual stream stay"
)
