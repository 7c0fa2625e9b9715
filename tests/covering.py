"""Few cases in place of a full product of factors."""

import itertools


def singles(*factors):
    """Rows in which each value of each factor comes at least once.

    Args:
        factors: lists of values.

    Returns:
        A list of tuples, as many as the longest factor has values; the
        others start again.
    """
    size = max(len(factor) for factor in factors)
    return [
        tuple(factor[row % len(factor)] for factor in factors)
        for row in range(size)
    ]


def pairs(*factors):
    """Rows in which any two values of two factors come together once.

    Args:
        factors: lists of values, at least two.

    Returns:
        A list of tuples. Each starts from the first pair that is still
        missing and takes, for the other factors, what adds most of them.
    """
    missing = {
        ((i, a), (j, b)): None
        for i, j in itertools.combinations(range(len(factors)), 2)
        for a in range(len(factors[i]))
        for b in range(len(factors[j]))
    }
    rows = []
    while missing:
        row = dict(next(iter(missing)))
        for i in set(range(len(factors))) - set(row):
            row[i] = max(
                range(len(factors[i])),
                key=lambda a: sum(
                    tuple(sorted([(i, a), other])) in missing
                    for other in row.items()
                ),
            )
        for pair in itertools.combinations(sorted(row.items()), 2):
            missing.pop(pair, None)
        rows.append(tuple(factors[i][a] for i, a in sorted(row.items())))
    return rows
