"""How many groups of weights a network may keep to have a size."""

import re

import keras
import numpy as np

from l0keras.graph.weight_groups import weight_groups
from l0keras.regularizers.weight_groups import WeightGroups
from l0keras.stripping.strip import strip
from l0keras.targets import Target
from l0keras.targets import as_targets
from l0keras.targets import size_of


def groups_to_keep(
    model: keras.Model,
    target: Target | list[Target],
    groups: list[WeightGroups] | None = None,
) -> dict[str, int]:
    """Says how many groups of weights may stay for a network to have a size.

    The network that keeps the largest share of the groups of each layer that
    fits is made and measured, so it has at most the size that is asked for.
    Layers whose next group still fits get it, in their order. All layers keep
    about the same share: which of them need more is not known before training.

    Args:
        model: a plain built `keras.Model`. It is not changed.
        target: what to reach, see `l0keras.targets.Target`, or a list of
            several that hold together.
        groups: a list of `WeightGroups` of the model; those of
            `l0keras.weight_groups(model)` by default.

    Returns:
        A dictionary with a number of at least 1 for each of `groups`, by a
        regular expression that finds its name alone: rules for the argument
        `keep` of `l0keras.optimizers.ProximalSGD` and `HSPG`.

    Raises:
        ValueError: one group of each layer is too much already; the message
            has the smallest size.

    Example:

    >>> keep = l0keras.groups_to_keep(model, Target("macs", 0.25))
    >>> optimizer = l0keras.optimizers.HSPG(
    ...     keras.optimizers.SGD(0.01, momentum=0.9),
    ...     l0keras.weight_groups(model),
    ...     {name: l0keras.regularizers.WGSEF(k) for name, k in keep.items()},
    ...     switch_at=5_000,
    ...     keep_at=10_000,
    ... )
    """
    # Each with a number, those of single layers one by one.
    targets = [
        absolute
        for one in as_targets(target)
        for absolute, _ in one.absolute(size_of(model, one))
    ]
    groups = weight_groups(model) if groups is None else list(groups)

    def fits(counts):
        sizes = kept_sizes(model, groups, counts, targets)
        return all(size <= t.at_most for size, t in zip(sizes, targets))

    shares = sorted({(i + 1) / g.size for g in groups for i in range(g.size)})
    # The first share keeps one group of each layer, the last one all.
    low, high = 0, len(shares) - 1
    least = kept_sizes(model, groups, _counts(groups, shares[low]), targets)
    for one, size in zip(targets, least):
        if size > one.at_most:
            raise ValueError(
                f"Argument `target` must ask for at least {size:,} {one.of}, "
                "those of the network with one group of weights in each "
                f"layer. Received: target={one!r}"
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
    return {
        f"^{re.escape(group.name)}$": count
        for group, count in zip(groups, counts, strict=True)
    }


def _counts(groups, share):
    # A share is a quotient of whole numbers, so rounding off errs by an ulp.
    return [max(1, int(share * group.size + 1e-9)) for group in groups]


def kept_sizes(model, groups, counts, targets):
    """The sizes of a network that keeps the first groups of each layer.

    Args:
        model, groups: as in `groups_to_keep`.
        counts: an integer for each of `groups`.
        targets: a list of `Target`.

    Returns:
        A list of numbers, one for each of `targets`.
    """
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
    small = strip(kept, check=False)
    return [size_of(small, one) for one in targets]
