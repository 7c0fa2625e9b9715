import numpy as np
from keras import ops

from l0keras.connections.positions import gather


class Groups:
    """A vector that consists of groups, one behind the other.

    Args:
        counts: how many entries each group has.

    Attributes:
        counts: the same, an int32 array.
        starts: the first entry of each group, an int32 array.
        first: of each entry the first one of its group, int32.
    """

    def __init__(self, counts):
        self.counts = np.array(counts, "int32")
        self.starts = np.cumsum(self.counts, dtype="int32") - self.counts
        self._group = None
        if len(counts) > 1:
            index = np.arange(len(counts), dtype="int32")
            self._group = np.repeat(index, self.counts)
        self.first = self.spread(self.starts)

    def spread(self, values):
        """Gives each entry what its group has: `(groups,)` to `(entries,)`.

        Where there is one group, the result only broadcasts to that.
        """
        if self._group is None:
            return values[0]
        if isinstance(values, np.ndarray):
            return values[self._group]
        return gather(values, self._group)

    def number(self, chosen):
        """Numbers the chosen entries of each group from 1 on.

        Args:
            chosen: bool `(entries,)`.

        Returns:
            int32 `(entries,)`: how many of its group are chosen up to each
            entry; and int32 `(groups,)`: how many are in all.
        """
        number = ops.cumsum(ops.cast(chosen, "int32"))
        if self._group is None:
            return number, number[-1:]
        last = gather(number, self.starts + self.counts - 1)
        before = ops.pad(last[:-1], [(1, 0)])
        return number - gather(before, self._group), last - before
