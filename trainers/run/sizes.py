"""How many groups or connections a network may keep to have a size."""

import keras
import numpy as np

import l0keras


def limits(targets, dense):
    """What a network may have of each size.

    Args:
        targets: a list of `l0keras.targets.Target`.
        dense: the plain network of full shape.

    Returns:
        A list of numbers, one for each target.
    """
    return [
        target.limit(l0keras.targets.size_of(dense, target))
        for target in targets
    ]


def groups_to_keep(model, groups, targets):
    """The largest share of the groups of each layer that fits the targets.

    The network that keeps it is made and measured, so it has at most the
    size that is asked for. Layers whose next group still fits get it, in their
    order.

    Args:
        model: a plain built model. It is not changed.
        groups: its `WeightGroups`, a list.
        targets: a list of `l0keras.targets.Target`.

    Returns:
        A list of integers, one for each of `groups`, at least 1.

    Raises:
        ValueError: one group of each layer is too much already.
    """
    allowed = limits(targets, model)

    def fits(counts):
        sizes = _kept_sizes(model, groups, counts, targets)
        return all(size <= limit for size, limit in zip(sizes, allowed))

    shares = sorted({(i + 1) / g.size for g in groups for i in range(g.size)})
    # The first share keeps one group of each layer, the last one all.
    low, high = 0, len(shares) - 1
    least = _kept_sizes(model, groups, _counts(groups, shares[low]), targets)
    for target, size, limit in zip(targets, least, allowed):
        if size > limit:
            raise ValueError(
                f"Argument `target_{target.of}` must be at least {size:,}, of "
                "the network with one group of weights in each layer. "
                f"Received: target_{target.of}={limit:,.0f}"
            )
    while low < high:
        middle = (low + high + 1) // 2
        if fits(_counts(groups, shares[middle])):
            low = middle
        else:
            high = middle - 1
    counts = _counts(groups, shares[low])
    # A layer that has more at the next share, while all together have too much.
    following = _counts(groups, shares[min(low + 1, len(shares) - 1)])
    for index, more in enumerate(following):
        tried = [*counts[:index], more, *counts[index + 1 :]]
        if tried != counts and fits(tried):
            counts = tried
    return counts


def _counts(groups, share):
    # A share is a quotient of whole numbers, so rounding off errs by an ulp.
    return [max(1, int(share * group.size + 1e-9)) for group in groups]


def _kept_sizes(model, groups, counts, targets):
    """The sizes of a network that keeps the first groups of each layer."""
    kept = keras.models.clone_model(model)
    variables = dict(zip((v.path for v in model.variables), kept.variables))
    # Without a weight that is 0 by chance.
    for variable in kept.variables:
        variable.assign(np.ones(variable.shape, variable.dtype))
    for group, count in zip(groups, counts, strict=True):
        for path, index in zip(group.paths, group.indices):
            variable = variables[path]
            closed = np.broadcast_to(index >= count, variable.shape)
            value = keras.ops.convert_to_numpy(variable)
            variable.assign(np.where(closed, 0, value))
    small = l0keras.strip(kept, check=False)
    return [l0keras.targets.size_of(small, target) for target in targets]


def connectivity(kernels, others, at_most):
    """The largest share of all connections that leaves so many weights.

    Args:
        kernels: the numbers of weights of the kernels, a list.
        others: how many weights the network has beside them.
        at_most: how many weights may be other than 0, a number.

    Returns:
        A float in (0, 1], the same share for each kernel. As in
        `l0keras.optimizers.DeepR`, a kernel keeps the rounded number.

    Raises:
        ValueError: that is too much already with one connection of the
            smallest kernel.
    """

    def weights(share):
        return others + sum(round(share * size) for size in kernels)

    # A kernel begins to have one more at each of these.
    least = 1 / (2 * min(kernels))
    low, high = least * (1 + 1e-9), 1.0
    if weights(low) > at_most:
        raise ValueError(
            f"Argument `target_params` must be at least {weights(low):,}, of "
            "the network with the same share of each kernel, of which the "
            "smallest has one connection, and all other weights. "
            f"Received: target_params={at_most:,.0f}"
        )
    if weights(high) <= at_most:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if weights(middle) <= at_most else (low, middle)
        )
    return low
