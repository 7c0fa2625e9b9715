"""Strip: from a model with closed channels to a smaller plain model."""
