import keras


def optimizers_of(optimizer, kinds):
    """An optimizer, or those inside it, as far as they are of some kinds.

    Args:
        optimizer: a `keras.optimizers.Optimizer`, which may be made of others.
        kinds: a class, or a tuple of classes.

    Returns:
        A list, without optimizers that are not yet built.
    """
    if isinstance(optimizer, kinds):
        # Before the first step there is nothing to read.
        return [optimizer] if optimizer.built else []
    inner = getattr(optimizer, "optimizers", ())
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inner = (optimizer.inner_optimizer,)
    return [found for one in inner for found in optimizers_of(one, kinds)]
