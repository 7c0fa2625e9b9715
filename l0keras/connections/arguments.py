"""Checks of the arguments of the optimizers and of `init_sparse`."""

import math
import re


def check_connectivity(connectivity):
    """Checks the argument `connectivity`.

    Returns:
        The number as a float, or the rules as a list of pairs.

    Raises:
        ValueError: it is neither a share in (0, 1] nor rules for shares.
    """
    if not isinstance(connectivity, (list, tuple, dict)):
        return _check_share(connectivity, connectivity)
    if isinstance(connectivity, dict):
        connectivity = list(connectivity.items())
    rules = [
        tuple(rule) if isinstance(rule, (list, tuple)) else (rule,)
        for rule in connectivity
    ]
    if not rules:
        raise ValueError(
            "Argument `connectivity` must have at least one rule. "
            f"Received: connectivity={connectivity}"
        )
    for rule in rules:
        if len(rule) != 2 or not isinstance(rule[0], str):
            raise ValueError(
                "Argument `connectivity` must be a number or a list of pairs "
                "of a regular expression and a number. "
                f"Received: connectivity={connectivity}"
            )
        check_regex("connectivity", rule[0])
    return [(regex, _check_share(s, connectivity)) for regex, s in rules]


def _check_share(share, connectivity):
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if not number or not 0 < share <= 1:
        raise ValueError(
            "Argument `connectivity` must lie in (0, 1]. "
            f"Received: connectivity={connectivity}"
        )
    return float(share)


def check_regex(name, regex):
    """Raises a `ValueError` unless `regex` is a regular expression."""
    try:
        re.compile(regex)
    except (re.error, TypeError) as error:
        raise ValueError(
            f"Argument `{name}` must have regular expressions. "
            f"Received: {regex!r}, {error}"
        ) from None


def check_at_least_0(name, value):
    """The value as a float, or a `ValueError`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise ValueError(
            f"Argument `{name}` must be a number of at least 0. "
            f"Received: {name}={value}"
        )
    return float(value)


def check_seed(seed):
    """The seed, or a `ValueError`."""
    if seed is not None and (
        not isinstance(seed, int)
        or isinstance(seed, bool)
        or not 0 <= seed < 2**31
    ):
        raise ValueError(
            "Argument `seed` must be an integer from 0 to 2^31 - 1, or None. "
            f"Received: seed={seed}"
        )
    return seed
