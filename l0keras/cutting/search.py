"""The search for limits at which the cut model is as large as it may be."""

import numpy as np

from l0keras.cutting.choose_gates import choose_gates

# What is large enough, as a share of the size that is asked for.
_ENOUGH = 0.985
_MOST_CUTS = 10


class Search:
    """Finds the gates of the largest model within limits.

    What a counter says and what is left of a cut model may differ, so the
    limits are moved until the cut model is as large as it may be.

    Args:
        scores, protected, counter, limits: as in `choose_gates`.
        vectors: how many gates each vector has, a list in their order.
        share_of: a function from a choice of gates to the size of the cut
            model, as a share of the limits; of several the largest.
    """

    def __init__(self, scores, protected, counter, limits, vectors, share_of):
        self._scores = scores
        self._protected = protected
        self._counter = counter
        self._limits = limits
        self._vector = np.repeat(np.arange(len(vectors)), vectors)
        self._share_of = share_of
        # From choices, as bytes, to pairs of a choice and its share: limits
        # that are close to each other often leave the same gates.
        self._known = {}

    def find(self, allowed, most_steps):
        """Searches.

        Args:
            allowed: booleans, the gates that may stay.
            most_steps: how often vectors of gates may stop growing, for sizes
                that grow in steps, at least 1.

        Returns:
            A boolean array, which gates stay; `None` if nothing that was
            tried fits.
        """
        best, most, scale = None, 0.0, 1.0
        for _ in range(most_steps):
            fits, above, scale = self._edge(allowed, scale)
            for kept, share in self._known.values():
                if most < share <= 1:
                    best, most = kept, share
            if most >= _ENOUGH or fits is None or above is None:
                break
            # LiteRT computes channels in blocks: one more may take half as
            # long again, and the next ones nothing. Vectors that would begin
            # a block grow no further, so that the others fill the room.
            begun = self._vector[above & ~fits]
            allowed = allowed & (fits | ~np.isin(self._vector, begun))
        return best

    def _edge(self, allowed, scale):
        """Closes in on the limits at which the cut model just fits.

        Args:
            allowed: as in `find`.
            scale: what the limits are multiplied by first.

        Returns:
            The choice that fits at the largest limits, the one that does not
            at the smallest, and the factor of the former. Each choice may be
            `None`.
        """
        low, high, fits, above = 0.0, np.inf, None, None
        for _ in range(_MOST_CUTS):
            kept = choose_gates(
                *(self._scores, self._protected, allowed),
                *(self._counter, self._limits * scale),
            )
            if kept is None:
                low, scale = scale, (2 * scale if high == np.inf else high)
                if scale == low or scale > 100:
                    break
                continue
            key = kept.tobytes()
            if key not in self._known:
                self._known[key] = kept, self._share_of(kept)
            _, share = self._known[key]
            if share <= 1:
                low, fits = scale, kept
                if share >= _ENOUGH or np.all(kept[allowed]):
                    break
            else:
                high, above = scale, kept
            middle = scale / share
            if not low < middle < high:
                middle = (low + high) / 2
            if abs(middle - scale) < 1e-4 * scale:
                break
            scale = middle
        return fits, above, low
