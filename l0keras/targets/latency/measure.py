"""How long pieces take at several widths, from the cache or measured."""

import logging
import os
import random
import sys
import warnings

import keras

from l0keras.targets.files import guarded_folder
from l0keras.targets.latency.cache import add_to_cache
from l0keras.targets.latency.cache import cache_key
from l0keras.targets.latency.cache import read_cache
from l0keras.targets.latency.timing import timed

_log = logging.getLogger(__name__)
# Files that are timed in turns: as many as fit into memory in any case.
_TURN_FILES = 32
_TURN_BYTES = 2**28
# For each file in a round.
_SECONDS = 0.05
# The key of a file with next to nothing in it.
_NOTHING = "nothing"


def measure(pieces, quantization, progress=None):
    """Times pieces at all of their widths, one example on one thread.

    Each is written as a LiteRT file of its own. Times are kept, see
    `cache_path`.

    Args:
        pieces: a list of `Piece`.
        quantization: as in `export_tflite`.
        progress: whether to show a bar while files are timed, or a function
            of the number of those that are done and of all. `None` shows it on
            a terminal.

    Returns:
        The microseconds of a file with next to nothing in it, a float, and
        for each piece a dictionary from pairs of widths to the microseconds
        beyond that, at least 0. A width that the piece cannot have is left
        out.
    """
    jobs, names = {}, []
    keys = {_NOTHING: cache_key(_NOTHING, quantization)}
    for piece in pieces:
        own = {}
        for parts in piece.widths():
            key = piece.key(parts)
            # One without a key is like no other, and cannot be kept.
            own[parts] = name = key or f"{id(piece)} {parts}"
            if key:
                keys[name] = cache_key(key, quantization)
            jobs.setdefault(name, lambda p=piece, parts=parts: p.model(parts))
        names.append(own)
    known = read_cache()
    if keys[_NOTHING] not in known:
        known = {}
    times = {n: known[key] for n, key in keys.items() if key in known}
    missing = {name: job for name, job in jobs.items() if name not in times}
    for found in _timed(missing, quantization, _shown(progress, len(missing))):
        times.update(found)
        add_to_cache({keys[n]: t for n, t in found.items() if n in keys})
    found = [
        {parts: times[name] for parts, name in own.items() if name in times}
        for own in names
    ]
    untimed = [piece.head.name for piece, own in zip(pieces, found) if not own]
    if untimed:
        warnings.warn(
            "LiteRT has no files for these layers by themselves, so they "
            f"count as no time until the model is cut: {', '.join(untimed)}.",
            stacklevel=2,
        )
    return times[_NOTHING], found


def _nothing():
    inputs = keras.Input((1,), name="input")
    layer = keras.layers.Dense(1, kernel_initializer="ones", name="dense")
    return keras.Model(inputs, layer(inputs), name="nothing")


def _timed(jobs, quantization, done):
    """Yields dictionaries of microseconds by name, in batches of files."""
    count, jobs = 0, list(jobs.items())
    while jobs:
        with guarded_folder("latency-") as folder:
            content = _file(_nothing, quantization)
            paths, size = {_NOTHING: _written(folder, _NOTHING, content)}, 0
            while jobs and len(paths) < _TURN_FILES and size < _TURN_BYTES:
                name, make = jobs.pop(0)
                content = _file(make, quantization)
                count += 1
                if content is not None:
                    paths[name] = _written(folder, count, content)
                    size += len(content)
                done(count)
            times = timed(list(paths.values()), max_seconds=_SECONDS)
            times = dict(zip(paths, times, strict=True))
            least = times.pop(_NOTHING)
            found = {name: max(0.0, t - least) for name, t in times.items()}
            yield {_NOTHING: least, **found}


def _written(folder, name, content):
    path = os.path.join(folder, f"{name}.tflite")
    with open(path, "wb") as file:
        file.write(content)
    return path


def _file(make, quantization):
    # Training needs targets, but no files.
    from l0keras.export.litert.frozen import convert_frozen

    # Layers draw their seeds from it.
    state = random.getstate()
    try:
        return convert_frozen(make(), quantization)
    except Exception as error:
        # A layer of this kind has no such width, or no file for itself. What
        # it takes then is in what the file of the whole model takes.
        _log.info("No file for a piece of the model: %s", error)
        return None
    finally:
        random.setstate(state)


def _shown(progress, count):
    """A function of how many files are done."""
    if callable(progress):
        return lambda done: progress(done, count)
    if progress is None:
        progress = sys.stdout.isatty()
    if not progress or not count:
        return lambda done: None
    bar = keras.utils.Progbar(count, unit_name="file", interval=0.5)
    return bar.update
