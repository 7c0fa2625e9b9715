def check_count(name, k):
    """A number of groups or a share of them, checked.

    Args:
        name: of the argument.
        k: an integer of at least 1, or a share in (0, 1], a float.

    Returns:
        `k`.

    Raises:
        ValueError: something else.
    """
    number = isinstance(k, (int, float)) and not isinstance(k, bool)
    share = number and isinstance(k, float)
    if not number or not (0 < k <= 1 if share else k >= 1):
        raise ValueError(
            f"Argument `{name}` must be a number of groups, an integer of at "
            "least 1, or a share of them in (0, 1], a float. "
            f"Received: {name}={k}"
        )
    return k


def count_of(name, k, groups):
    """The number of groups that `k` stands for.

    Args:
        name: of the argument.
        k: what `check_count` allows; a share is rounded, to at least one.
        groups: how many there are.

    Raises:
        ValueError: `k` is more than that.
    """
    if isinstance(k, float):
        return max(1, round(k * groups))
    if k > groups:
        raise ValueError(
            f"Argument `{name}` must be at most the number of groups, "
            f"{groups}. Received: {name}={k}"
        )
    return k
