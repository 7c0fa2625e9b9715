"""Data sets as the programs read them."""
