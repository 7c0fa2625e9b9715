import math

import keras

from l0keras.connections.sparse_variables import sparse_variables
from l0keras.connections.sparse_variables import storage_of
from l0keras.targets.size import size_of
from l0keras.targets.target import Target


def connectivity_for(
    model: keras.Model, target: Target, include: str | None = None
) -> float:
    """Says which share of all connections leaves a network so many weights.

    Args:
        model: a plain built `keras.Model`. It is not changed.
        target: a `l0keras.targets.Target` of `"params"` of the whole model:
            how many weights may be other than 0.
        include: as in `l0keras.optimizers.DeepR`, which variables are sparse.

    Returns:
        A float in (0, 1], the same share for each sparse variable, for the
        argument `connectivity` of `l0keras.optimizers.DeepR` and
        `SoftDeepR`. As there, a variable keeps the rounded number.

    Raises:
        ValueError: a target of something else, no variable that is sparse
            and a whole array, or so few weights that the
            smallest variable would have no connection; the message has the
            smallest number.

    Example:

    >>> optimizer = l0keras.optimizers.DeepR(
    ...     keras.optimizers.SGD(0.05),
    ...     connectivity=connectivity_for(model, Target("params", 0.02)),
    ... )
    """
    of_all = Target("params", 1.0).about
    if not isinstance(target, Target) or target.about != of_all:
        raise ValueError(
            "Argument `target` must be a Target of params of the whole "
            f"model. Received: target={target!r}"
        )
    total = size_of(model, target)
    sizes = [
        math.prod(variable.shape)
        for variable, _ in sparse_variables(
            model.trainable_variables, 1.0, include
        )
        if storage_of(variable) is None
    ]
    if not sizes:
        raise ValueError(
            "Argument `model` must have a sparse variable that is a whole "
            "array: those of `layers.SparseDense` have their connectivity "
            f"already. Received: model '{model.name}'"
        )
    return _share(sizes, total - sum(sizes), target.limit(total), target)


def _share(sizes, others, at_most, target):
    def weights(share):
        return others + sum(round(share * size) for size in sizes)

    # A variable begins to have one more at each of these.
    least = 1 / (2 * min(sizes))
    low, high = least * (1 + 1e-9), 1.0
    if weights(low) > at_most:
        raise ValueError(
            f"Argument `target` must ask for at least {weights(low):,} params, "
            "those of the network with the same share of each kernel, of which "
            "the smallest has one connection, and all other weights. "
            f"Received: target={target!r}, which is {at_most:,.0f}"
        )
    if weights(high) <= at_most:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if weights(middle) <= at_most else (low, middle)
        )
    return low
