import math

import keras

from l0keras.targets.files import Files
from l0keras.targets.size import check_plain
from l0keras.targets.size import check_target
from l0keras.targets.size import size_of
from l0keras.targets.target import Target


class Yardstick:
    """Measures models beside one whose size is known.

    Microseconds of two moments cannot be compared: other work, the clock of
    the processor and what the process itself does beside it slow a file by
    half and more. So a latency is the known one times the ratio of the two
    files, timed in turns. All other sizes are what `size_of` says.

    Args:
        target: a `Target`. Its number does not matter.
        model: the model whose size is known, built and without gates. It is
            only read for latencies, or where `size` is `None`.
        size: its size, `None` to measure it.
        representative_data: as in `size_of`.

    Attributes:
        size: the size of `model`; for `each` a dictionary as of `size_of`.

    Raises:
        ValueError, ImportError, RuntimeError: as `size_of`.
    """

    def __init__(
        self,
        target: Target,
        model: keras.Model,
        size: float | None = None,
        representative_data=None,
    ):
        check_target(target)
        if isinstance(size, (int, float)) and not 0 < size < math.inf:
            raise ValueError(
                "Argument `size` must be a number above 0, or None. "
                f"Received: size={size}"
            )
        self._target = target
        self._data = representative_data
        self._files = None
        if target.of == "latency":
            check_plain(model)
            self._files = Files(target, model, representative_data)
            self._content = self._files.content(model)
            if size is None:
                (size,) = self._files.sizes([self._content])
        elif size is None:
            size = size_of(model, target, representative_data)
        self.size = size

    def size_of(self, model: keras.Model) -> float | dict[str, float]:
        """The size of another model, such as one that was cut from the first.

        Raises:
            ValueError, RuntimeError: as `size_of`.
        """
        if self._files is None:
            return size_of(model, self._target, self._data)
        check_plain(model)
        contents = self._content, self._files.content(model)
        known, own = self._files.sizes(contents)
        return self.size * own / known
