import numpy as np
from keras import ops

from l0keras.connections.positions import gather


class Segments:
    """A vector of segments that lie one behind the other.

    Args:
        counts: the number of entries of each segment.

    Attributes:
        counts: the same, an int32 array.
        starts: the first entry of each segment, an int32 array.
        first: for each entry the first entry of its segment, int32.
    """

    def __init__(self, counts):
        self.counts = np.array(counts, "int32")
        self.starts = np.cumsum(self.counts, dtype="int32") - self.counts
        self._segment = None
        if len(counts) > 1:
            index = np.arange(len(counts), dtype="int32")
            self._segment = np.repeat(index, self.counts)
        self.first = self.spread(self.starts)

    def spread(self, values):
        """Gives each entry the value of its segment.

        Args:
            values: an array or a tensor `(segments,)`.

        Returns:
            A vector `(entries,)`; for a single segment a scalar, which
            broadcasts to it.
        """
        if self._segment is None:
            return values[0]
        if isinstance(values, np.ndarray):
            return values[self._segment]
        return gather(values, self._segment)

    def number(self, chosen):
        """Numbers the chosen entries of each segment, from 1 on.

        Args:
            chosen: bool `(entries,)`.

        Returns:
            A pair of int32 tensors. The first, `(entries,)`, counts the
            chosen entries of the same segment up to and with each entry; the
            second, `(segments,)`, counts all chosen entries of each segment.
        """
        number = ops.cumsum(ops.cast(chosen, "int32"))
        if self._segment is None:
            return number, number[-1:]
        last = gather(number, self.starts + self.counts - 1)
        before = ops.pad(last[:-1], [(1, 0)])
        return number - gather(before, self._segment), last - before
