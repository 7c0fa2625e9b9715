from keras import ops

# Newton's method needs about five, halving a range of exponents 150.
_MOST_STEPS = 200


def share_budget(values, offsets, budget):
    """Finds u_j = clip(eta * values_j - offsets_j, 0, 1) that sum to a budget.

    The sum grows piecewise linearly with eta. Newton's method finds the
    piece, and on it the exact eta; where it leaves the range that is left, the
    range is halved in logarithms. Each step costs time in proportion to the
    number of values, and there are few, so nothing is sorted.

    Args:
        values: float `(n,)`, at least 0.
        offsets: float `(n,)`, at least 0.
        budget: the sum, a number of at least 1.

    Returns:
        A tensor `(n,)`; 1 at all values above 0 if they are no more than the
        budget, and 0 where a value is 0.
    """
    dtype = values.dtype
    budget = ops.cast(budget, dtype)
    positive = values > 0
    largest = ops.max(values)
    # The scale of the values is that of 1 / eta, and means nothing else.
    values = values / ops.where(largest > 0, largest, 1)
    offsets = ops.where(positive, offsets, 0)
    few = ops.sum(ops.cast(positive, dtype)) <= budget
    total = ops.sum(values)
    total = ops.where(total > 0, total, 1)
    safe = ops.where(positive, values, 1)
    low = budget / total
    high = ops.max(ops.where(positive, (offsets + 1) / safe, 0))
    high = ops.minimum(high, 1e37)

    def refine(step, eta, low, high, _):
        z = eta * values - offsets
        between = ops.cast(ops.logical_and(z > 0, z < 1), dtype)
        full = ops.sum(ops.cast(z >= 1, dtype))
        slope = ops.sum(between * values)
        found = full + ops.sum(between * z)
        low = ops.where(found < budget, eta, low)
        high = ops.where(found < budget, high, eta)
        newton = budget - full + ops.sum(between * offsets)
        newton = newton / ops.where(slope > 0, slope, 1)
        # An exact one is at an end of the range, up to rounding.
        close = ops.abs(newton - eta) <= 1e-6 * eta
        close = ops.logical_and(close, slope > 0)
        inside = ops.logical_and(newton > low, newton < high)
        inside = ops.logical_and(inside, slope > 0)
        middle = ops.sqrt(low) * ops.sqrt(high)
        following = ops.where(ops.logical_or(inside, close), newton, middle)
        tight = high - low <= 1e-6 * high
        return step + 1, following, low, high, ops.logical_or(close, tight)

    start = (budget + ops.sum(offsets)) / total
    _, eta, _, _, _ = ops.while_loop(
        lambda step, eta, low, high, done: ops.logical_not(
            ops.logical_or(done, step >= _MOST_STEPS)
        ),
        refine,
        (ops.cast(0, "int32"), start, low, high, few),
    )
    shares = ops.clip(eta * values - offsets, 0, 1)
    return ops.where(few, ops.cast(positive, dtype), shares)
