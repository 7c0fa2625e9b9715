"""Which gates stay open, for the largest model within limits."""

import numpy as np


def choose_gates(scores, protected, allowed, counter, limits):
    """Takes the best gates as long as the model fits, then any that still do.

    Args:
        scores: a float for each gate; the highest stay first.
        protected: booleans, the gates that stay in any case.
        allowed: booleans, the gates that may stay.
        counter: what counts the sizes of a choice, see `CostCounter`.
        limits: the largest sizes, an array.

    Returns:
        A boolean array, which gates stay; `None` if not even the protected
        ones fit.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[allowed[order]]

    def best(count):
        kept = protected.copy()
        kept[order[:count]] = True
        return kept

    def fits(kept):
        return np.all(counter.sizes(kept) <= limits)

    if not fits(protected):
        return None
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(best(middle)):
            low = middle
        else:
            high = middle - 1
    kept = best(low)
    tried = kept.copy()
    for _ in range(counter.most_tries):
        room = limits - counter.sizes(kept)
        possible = ~tried & allowed & counter.may_fit(kept, room)
        if not np.any(possible):
            break
        gate = order[np.argmax(possible[order])]
        tried[gate] = kept[gate] = True
        kept[gate] = fits(kept)
    return kept


class CostCounter:
    """Counts sizes by the costs with which gates were trained.

    Args:
        costs: a list of `regularizers.ExpectedCost`.
    """

    most_tries = 100_000

    def __init__(self, costs):
        self._costs = costs

    def sizes(self, kept):
        """The sizes of a choice of gates, an array."""
        return np.array([cost.of_open(kept) for cost in self._costs])

    def may_fit(self, kept, room):
        """Which gates, each alone, add no more than there is room for."""
        fits = np.ones(len(kept), bool)
        for cost, left in zip(self._costs, room, strict=True):
            fits &= cost.of_opening(kept) <= left
        return fits


class CutCounter:
    """Counts sizes by cutting.

    Args:
        cut: a function from a choice of gates to sizes.
    """

    # Each one is a model built anew.
    most_tries = 10

    def __init__(self, cut):
        self._cut = cut
        self._known = {}

    def sizes(self, kept):
        """The sizes of a choice of gates, an array."""
        key = kept.tobytes()
        if key not in self._known:
            self._known[key] = np.array(self._cut(kept), float)
        return self._known[key]

    def may_fit(self, kept, room):
        """All gates: only cutting tells."""
        return np.ones(len(kept), bool)
