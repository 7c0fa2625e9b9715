import keras


def checked(optimizer, grads, trainable_variables):
    """What `apply` of an optimizer of optimizers begins with.

    As in Keras it builds the optimizer in its first step, and leaves out
    variables without a gradient.

    Args:
        optimizer: a `keras.optimizers.Optimizer`.
        grads, trainable_variables: the arguments of its `apply`.

    Returns:
        Gradients and their variables, two lists of the same length.

    Raises:
        ValueError: no variables, unknown ones, or not one gradient for each.
    """
    if trainable_variables is not None:
        trainable_variables = list(trainable_variables)
        if not optimizer.built:
            with keras.name_scope(optimizer.name):
                optimizer.build(trainable_variables)
        optimizer._check_variables_are_known(trainable_variables)
    elif optimizer.built:
        trainable_variables = optimizer._trainable_variables
    else:
        raise ValueError(
            "Argument `trainable_variables` must be the variables of "
            "`grads` as long as the optimizer is not built. "
            "Received: trainable_variables=None"
        )
    if len(grads) != len(trainable_variables):
        raise ValueError(
            "Argument `grads` must have one gradient for each of the "
            f"{len(trainable_variables)} variables. "
            f"Received: {len(grads)} gradients"
        )
    return optimizer._filter_empty_gradients(grads, trainable_variables)
