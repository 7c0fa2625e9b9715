"""What a model has, what it costs and what was cut of it."""
