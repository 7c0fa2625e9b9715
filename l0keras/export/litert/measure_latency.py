import numbers
import os
import time

import numpy as np

from l0keras.export.litert.run_tflite import open_tflite
from l0keras.export.litert.worker import WORKER
from l0keras.export.litert.worker import WorkerDied
from l0keras.export.litert.worker import WorkFailed

_RUNS = 1000
_SECONDS = 2.0


def measure_latency(
    paths,
    num_threads: int = 1,
    runs: int = _RUNS,
    max_seconds: float = _SECONDS,
    sample_shape=None,
) -> float | list[float]:
    """Times LiteRT files on random inputs, one example at a time.

    Several files run in turns. Other work of the machine then slows all of
    them alike, so the ratios of their times can be trusted. They run in a
    process of their own: in one that has trained a model the same file takes
    up to twice as long.

    Args:
        paths: the path of a `.tflite` file, or a list of paths.
        num_threads: an integer, at least 1.
        runs: the largest number of runs of each file.
        max_seconds: about the longest time for each file in seconds. Each
            file runs 10 times even if that takes longer.
        sample_shape: the shape of one example without the batch axis, a
            tuple, or for several inputs a dictionary of tuples by their
            names. Needed for files with free sizes, whose time depends on
            them. A number stands in the place of each free size.

    Returns:
        The median time of a run in microseconds, a float; for a list of
        paths a list of floats.

    Raises:
        ImportError: ai-edge-litert is not installed.
        ValueError: a file does not exist, an argument is out of range, or
            `sample_shape` does not fit the inputs.
        RuntimeError: a file cannot be run.

    Example:

    >>> dense, small = measure_latency(["dense.tflite", "small.tflite"])
    >>> measure_latency("segment.tflite", sample_shape=(256, 256, 3))
    """
    several = not isinstance(paths, (str, os.PathLike))
    files = _files(paths) if several else [paths]
    for name, number, kinds in (
        ("runs", runs, int),
        ("max_seconds", max_seconds, (int, float)),
    ):
        if not isinstance(number, kinds) or not number > 0:
            raise ValueError(
                f"Argument `{name}` must be a number above 0. "
                f"Received: {name}={number!r}"
            )
    for path in files:
        # So that these errors are those of this process.
        interpreter = open_tflite(path, num_threads, argument="paths")
        _shapes(interpreter, sample_shape)
    try:
        medians = WORKER.run(
            time_files,
            *(list(map(os.path.abspath, files)), num_threads, runs),
            *(max_seconds, sample_shape),
        )
    except (WorkerDied, WorkFailed) as error:
        raise RuntimeError(
            f"LiteRT cannot run one of the files {files}: {error}"
        ) from error
    return medians if several else medians[0]


def _files(paths):
    try:
        files = list(paths)
    except TypeError:
        files = []
    if not files or not all(isinstance(x, (str, os.PathLike)) for x in files):
        raise ValueError(
            "Argument `paths` must be the path of a .tflite file, or a list of "
            f"at least one. Received: paths={paths!r}"
        )
    return files


def time_files(
    paths, num_threads, runs=_RUNS, max_seconds=_SECONDS, sample_shape=None
):
    """Does what `measure_latency` says, in this process.

    Returns:
        A list of microseconds.
    """
    programs = [_program(path, num_threads, sample_shape) for path in paths]
    for run in programs:
        for _ in range(5):
            run()
    times = [[] for _ in programs]
    deadline = time.perf_counter() + max_seconds * len(programs)
    # Turns are just long enough to fill the caches with one file.
    turn = 10
    while len(times[0]) < runs:
        for run, spent in zip(programs, times):
            for _ in range(min(turn, runs - len(spent))):
                start = time.perf_counter()
                run()
                spent.append(time.perf_counter() - start)
        if time.perf_counter() > deadline:
            break
    return [float(np.median(spent)) * 1e6 for spent in times]


def _program(path, num_threads, sample_shape):
    interpreter = open_tflite(path, num_threads)
    for index, shape in _shapes(interpreter, sample_shape).items():
        interpreter.resize_tensor_input(index, shape)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        array = rng.random(details["shape"]).astype(details["dtype"])
        interpreter.set_tensor(details["index"], array)
    return interpreter.invoke


def _shapes(interpreter, sample_shape):
    """The shapes of inputs that are not as in the file, by their indices."""
    names = _names(interpreter)
    if isinstance(sample_shape, dict):
        known = {
            names.get(details["index"], details["name"])
            for details in interpreter.get_input_details()
        }
        if unknown := sample_shape.keys() - known:
            raise ValueError(
                "Argument `sample_shape` must have names of inputs, of "
                f"{sorted(known)}. Received: {sorted(map(str, unknown))}"
            )
    found = {}
    for details in interpreter.get_input_details():
        shape = _sizes(details, names, sample_shape)
        if shape != list(details["shape"]):
            found[details["index"]] = shape
    return found


def _names(interpreter):
    """The names of inputs in the signature by the indices of tensors."""
    if not interpreter.get_signature_list():
        # As those of `convert_frozen`.
        return {}
    details = interpreter.get_signature_runner().get_input_details()
    return {one["index"]: name for name, one in details.items()}


def _sizes(details, names, sample_shape):
    """The shape of an input with one example."""
    signature = [int(size) for size in details["shape_signature"]]
    name = names.get(details["index"], details["name"])
    wanted = sample_shape
    if isinstance(sample_shape, dict):
        wanted = sample_shape.get(name)
    if wanted is None:
        fixed = [1 if size < 0 else size for size in signature[:1]]
        shape = fixed + signature[1:]
    elif isinstance(wanted, (tuple, list)) and all(
        isinstance(size, numbers.Integral) for size in wanted
    ):
        shape = [max(signature[0], 1), *map(int, wanted)]
    else:
        shape = []
    fits = len(shape) == len(signature) and all(
        size >= 1 and own in (-1, size)
        for own, size in zip(signature[1:], shape[1:])
    )
    if not fits:
        free = ", ".join("any" if n < 0 else str(n) for n in signature[1:])
        free += "," * (len(signature) == 2)
        raise ValueError(
            "Argument `sample_shape` must give the sizes of one example of "
            f"input '{name}' of shape ({free}): the time depends on them. "
            f"Received: sample_shape={sample_shape!r}"
        )
    return shape
