"""Connections of DEEP R: which there are, where they go and how they move."""
