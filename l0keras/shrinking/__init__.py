"""Shrink: from a gated model in training to a smaller gated one."""
