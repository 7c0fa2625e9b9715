"""Settings for `WeightGroups`: one value for all, or rules by their names.

A rule is a pair of a regular expression and a value. The first rule whose
expression is found in a name (by `re.search`) applies.
"""

import re

from l0keras.connections.arguments import check_regex


def check_rules(name, setting, check):
    """Checks a value, or rules and all their values.

    Args:
        name: the name of the argument, for errors.
        setting: a value, or a list of rules, or a dictionary of them.
        check: a function of a value that returns it, or raises an error.

    Returns:
        The value, or a list of pairs.

    Raises:
        ValueError: `setting` is neither a value that passes `check` nor
            rules for such values.
    """
    if isinstance(setting, dict):
        setting = list(setting.items())
    if not isinstance(setting, (list, tuple)):
        return check(setting)
    rules = [tuple(rule) for rule in setting if isinstance(rule, (list, tuple))]
    if (
        not rules
        or len(rules) < len(setting)
        or any(len(r) != 2 or not isinstance(r[0], str) for r in rules)
    ):
        raise ValueError(
            f"Argument `{name}` must be one setting or a list of pairs of a "
            f"regular expression and a setting. Received: {name}={setting}"
        )
    for regex, _ in rules:
        check_regex(name, regex)
    return [(regex, check(value)) for regex, value in rules]


def apply_rules(name, setting, names):
    """Chooses the value for each name.

    Args:
        name: the name of the argument, for errors.
        setting: the value or the rules that `check_rules` returned.
        names: the names of the `WeightGroups`.

    Returns:
        A list with a value for each name.

    Raises:
        ValueError: a name without a rule, or a rule without a name.
    """
    if not isinstance(setting, list):
        return [setting] * len(names)
    found, used = [], set()
    for own in names:
        for index, (regex, value) in enumerate(setting):
            if re.search(regex, own):
                used.add(index)
                found.append(value)
                break
        else:
            raise ValueError(
                f"Argument `{name}` must have a rule for all groups of "
                f"weights; a last rule for '.' matches all others. Received: "
                f"{own!r} matches none of {[regex for regex, _ in setting]}"
            )
    unused = [r for i, (r, _) in enumerate(setting) if i not in used]
    if unused:
        raise ValueError(
            f"Argument `{name}` must have groups for each of its rules. "
            f"Received: {unused} match none of {names}, or only names that "
            "an earlier rule takes"
        )
    return found
