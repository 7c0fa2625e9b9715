"""LiteRT files for microcontrollers: forms of layers, the check, C arrays."""
