import re

from l0keras.connections.choose import check_regex


def check_rules(name, setting, check):
    """One setting for all groups of weights, or rules, checked.

    Args:
        name: of the argument.
        setting: a value, or a list of pairs of a regular expression and a
            value, or a dictionary.
        check: a function of a value that returns it, or raises an error.

    Returns:
        The value, or a list of pairs.

    Raises:
        ValueError: something else.
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
    """The setting of each groups of weights: the first rule that is found.

    Args:
        name: of the argument.
        setting: what `check_rules` returned.
        names: of the groups of weights.

    Returns:
        A list.

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
                f"weights; a last one for '.' takes what is left. Received: "
                f"{own!r} matches none of {[regex for regex, _ in setting]}"
            )
    unused = [r for i, (r, _) in enumerate(setting) if i not in used]
    if unused:
        raise ValueError(
            f"Argument `{name}` must have groups for each of its rules. "
            f"Received: {unused} match none of {names} that an earlier rule "
            "has not taken"
        )
    return found
