"""Times that can be compared though the machine is not always as fast."""

import functools
import os
import random
import statistics
import tempfile

import keras

from l0keras.targets.latency.cache import add_to_cache
from l0keras.targets.latency.cache import cache_key
from l0keras.targets.latency.cache import read_cache

_ROUNDS = 4
# By its key the least time of the reference, should there be no cache.
_least = {}


def ratios(paths, runs=100, max_seconds=0.25):
    """Times LiteRT files beside a reference, one example on one thread.

    Other work and the heat of the machine change its speed for a minute, by a
    factor of two and more; a file that is timed in turns with the others tells
    by how much.

    Args:
        paths: a list of paths of `.tflite` files.
        runs: the largest number of runs of each file in a round.
        max_seconds: about the longest time for each file in a round.

    Returns:
        A list of numbers: of each file the time as a part of that of the
        reference, the median of a few rounds.
    """
    # Training needs targets, but no files.
    from l0keras.export import measure_latency

    with tempfile.TemporaryDirectory(prefix="latency-") as folder:
        path = os.path.join(folder, "reference.tflite")
        with open(path, "wb") as file:
            file.write(_reference())
        rounds = [
            measure_latency([path, *paths], runs=runs, max_seconds=max_seconds)
            for _ in range(_ROUNDS)
        ]
    _note(min(times[0] for times in rounds))
    return [
        statistics.median(times[index] / times[0] for times in rounds)
        for index in range(1, 1 + len(paths))
    ]


def reference_time():
    """The least microseconds that the reference ever took on this machine."""
    if _known() is None:
        ratios([])
    return _known()


def _note(time):
    known = _known()
    if known is None or time < known:
        key = cache_key("reference", None)
        _least[key] = time
        add_to_cache({key: time})


def _known():
    key = cache_key("reference", None)
    found = [times[key] for times in (_least, read_cache()) if key in times]
    return min(found, default=None)


@functools.cache
def _reference():
    """The content of a file with one convolution, of some 50 microseconds."""
    from l0keras.export.litert.frozen import convert_frozen

    # An initializer draws its seed from it.
    state = random.getstate()
    try:
        inputs = keras.Input((16, 16, 32), name="input")
        layer = keras.layers.Conv2D(32, 3, padding="same", name="conv")
        model = keras.Model(inputs, layer(inputs), name="reference")
        return convert_frozen(model)
    finally:
        random.setstate(state)
