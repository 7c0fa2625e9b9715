"""A flag for some of the rows of a study."""

import re

from absl import flags


def define_flag(flag_values=flags.FLAGS):
    """Defines the flag `only`, see `choose`."""
    flags.DEFINE_string(
        "only",
        "",
        "Regular expression that names of models must contain; all if empty.",
        flag_values=flag_values,
    )


def choose(pattern, names):
    """The names that contain a regular expression.

    Args:
        pattern: a string.
        names: an iterable of strings.

    Returns:
        A list of strings.

    Raises:
        ValueError: no regular expression, or one that fits no name.
    """
    names = list(names)
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise ValueError(
            "Argument `only` must be a regular expression. "
            f"Received: only={pattern} ({error})"
        ) from None
    if not found:
        raise ValueError(
            f"Argument `only` must fit one of {', '.join(names)}. "
            f"Received: only={pattern}"
        )
    return found
