"""Ratios of time and memory, each measured in one run."""
