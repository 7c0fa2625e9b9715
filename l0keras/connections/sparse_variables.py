"""Which variables are sparse, and how many connections each of them has."""

import math
import re

from l0keras.connections.positions import MOST_POSITIONS


def storage_of(variable):
    """The sparse storage that a variable is the values of.

    Returns:
        The `SparseStorage` of a `l0keras.layers.SparseDense`, or `None` for
        a variable that is a whole array.
    """
    return getattr(variable, "sparse_storage", None)


def is_kernel(variable):
    """Whether a variable is a kernel with at least two axes."""
    return len(variable.shape) >= 2 and "kernel" in variable.name


def sparse_variables(variables, connectivity, include):
    """Chooses the sparse variables and counts their connections.

    Args:
        variables: the trainable variables.
        connectivity: a number or a list of rules, from `check_connectivity`.
        include: a regular expression, or `None`.

    Returns:
        A list of pairs of a variable and its number of connections.

    Raises:
        ValueError: a regular expression finds no variable, or a variable
            would have no connection.
    """
    chosen = [v for v in variables if _is_chosen(v, include)]
    if not chosen:
        raise ValueError(
            "Argument `include` must find a trainable variable with more than "
            "one entry; `None` finds every kernel with at least two axes. "
            f"Received: include={include!r}, which finds none of "
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
            f"rules. Received: {names} match none of {_paths(chosen)}, or "
            "only variables that an earlier rule takes"
        )
    return counts


def _is_chosen(variable, include):
    if include is not None:
        found = re.search(include, variable.path)
        return bool(found) and math.prod(variable.shape) > 1
    if storage_of(variable) is not None:
        return True
    return is_kernel(variable)


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
