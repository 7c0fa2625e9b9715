"""Which variables are sparse, and how many connections each of them has."""

import math
import re

from l0keras.connections.positions import MOST_POSITIONS


def storage_of(variable):
    """What a layer with sparse storage says about its values.

    Returns:
        The `SparseStorage` of `l0keras.layers.SparseDense`, or `None` for a
        variable that is an array of its own.
    """
    return getattr(variable, "sparse_storage", None)


def choose(variables, connectivity, include):
    """The connections of each sparse variable.

    Args:
        variables: the trainable variables.
        connectivity: a checked number or list of rules.
        include: a regular expression, or `None`.

    Returns:
        A list of pairs of a variable and its number of connections.

    Raises:
        ValueError: a regular expression that finds nothing, or a variable
            that would be left without a connection.
    """
    chosen = [v for v in variables if _is_chosen(v, include)]
    if not chosen:
        raise ValueError(
            "Argument `include` must find a trainable variable of more than "
            "one entry; by default that is every kernel with at least two "
            f"axes. Received: include={include!r}, which finds none of "
            f"{_paths(variables)}"
        )
    if not isinstance(connectivity, list):
        return [(v, _count(v, connectivity)) for v in chosen]
    counts = []
    unused = {regex for regex, _ in connectivity}
    for variable in chosen:
        for regex, share in connectivity:
            if re.search(regex, variable.path):
                unused.discard(regex)
                counts.append((variable, _count(variable, share)))
                break
    if unused:
        names = [regex for regex, _ in connectivity if regex in unused]
        raise ValueError(
            "Argument `connectivity` must have a variable for each of its "
            f"rules. Received: {names} match none of {_paths(chosen)} that "
            "an earlier rule has not taken"
        )
    return counts


def _is_chosen(variable, include):
    if include is not None:
        found = re.search(include, variable.path)
        return bool(found) and math.prod(variable.shape) > 1
    if storage_of(variable) is not None:
        return True
    return len(variable.shape) >= 2 and "kernel" in variable.name


def _count(variable, share):
    storage = storage_of(variable)
    if storage is not None:
        return variable.shape[0]
    size = math.prod(variable.shape)
    if size > MOST_POSITIONS:
        raise ValueError(
            f"A sparse variable must have at most {MOST_POSITIONS} entries. "
            f"Received: {variable.path!r} with {size}"
        )
    count = round(share * size)
    if count < 1:
        raise ValueError(
            "Argument `connectivity` must leave each variable at least one "
            f"connection. Received: {share} for {variable.path!r}, which has "
            f"{size} entries"
        )
    return count


def _paths(variables):
    return [variable.path for variable in variables]


def check_connectivity(connectivity):
    """The number as a float, or the rules as a list of pairs."""
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
    try:
        re.compile(regex)
    except (re.error, TypeError) as error:
        raise ValueError(
            f"Argument `{name}` must have regular expressions. "
            f"Received: {regex!r}, {error}"
        ) from None


def check_at_least_0(name, value):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise ValueError(
            f"Argument `{name}` must be a number of at least 0. "
            f"Received: {name}={value}"
        )
    return float(value)


def check_seed(seed):
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
