"""One call from a model and data to a smaller model."""
