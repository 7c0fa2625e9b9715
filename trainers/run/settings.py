"""How a setting is told: once, with its default, help text and checks."""

import dataclasses

# What a value must be like: a test of it, and the test in words.
AT_LEAST_0 = (lambda v: v >= 0, "at least 0")
AT_LEAST_1 = (lambda v: v >= 1, "at least 1")
ABOVE_0 = (lambda v: v > 0, "above 0")
SHARE = (lambda v: 0 <= v <= 1, "in [0, 1]")
SHARE_ABOVE_0 = (lambda v: 0 < v <= 1, "in (0, 1]")
SHARE_BELOW_1 = (lambda v: 0 <= v < 1, "in [0, 1)")
SHARE_INSIDE = (lambda v: 0 < v < 1, "in (0, 1)")


def each(check):
    """A check of all of several values, of which there is at least one."""
    test, allowed = check
    return (lambda vs: vs and all(map(test, vs))), allowed


def ascend(values):
    whole = all(value % 1 == 0 for value in values)
    return whole and all(a < b for a, b in zip((0, *values), values))


def setting(
    default,
    text,
    check=None,
    choices=(),
    needs=(),
    per_layer=False,
    conflicts=(),
):
    """A field of `Config`, with all that there is to say of it.

    Args:
        default: its value, and that of its flag.
        text: the help text of the flag; it begins with a noun.
        check: a pair of a function that says whether a value is allowed and
            the words for an error.
        choices: the values that are allowed, where they have names.
        needs: pairs of words and a function of a `Config`: where it is false
            the setting is about nothing and must have its default.
        per_layer: whether `networks.NETWORKS` says how many values there are.
        conflicts: pairs of words and a function of a `Config`: where it is
            true the setting is about nothing, likewise.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "text": text,
            "check": check,
            "choices": choices,
            "needs": needs,
            "per_layer": per_layer,
            "conflicts": conflicts,
        },
    )


def one_of(name, value, allowed):
    """Raises a `ValueError` unless a value is among those allowed."""
    if value not in allowed:
        raise ValueError(
            f"Argument `{name}` must be one of {', '.join(allowed)}. "
            f"Received: {name}={value}"
        )


def check_value(name, value, test, allowed):
    """Raises a `ValueError` unless a value passes a test."""
    if not test(value):
        raise ValueError(
            f"Argument `{name}` must be {allowed}. "
            f"Received: {name}={listed(value)}"
        )


def listed(value):
    """A value as it is written in a flag."""
    if isinstance(value, (tuple, list)):
        return ",".join(str(entry) for entry in value)
    return value
