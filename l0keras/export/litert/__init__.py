"""LiteRT files: written, compared with the model, run and timed."""
