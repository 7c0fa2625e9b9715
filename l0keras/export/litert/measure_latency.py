import os
import time

import numpy as np

from l0keras.export.litert.run_tflite import open_tflite


def measure_latency(
    paths,
    num_threads: int = 1,
    runs: int = 1000,
    max_seconds: float = 2.0,
) -> float | list[float]:
    """Times LiteRT files on random inputs, one example at a time.

    Several files run in turns. Other work of the machine then slows all of
    them alike, so the ratios of their times can be trusted.

    Args:
        paths: the path of a `.tflite` file, or a list of paths.
        num_threads: an integer, at least 1.
        runs: the largest number of runs of each file.
        max_seconds: about the longest time for each file in seconds. Each
            file runs 10 times even if that takes longer.

    Returns:
        The median time of a run in microseconds, a float; for a list of
        paths a list of floats.

    Raises:
        ImportError: ai-edge-litert is not installed.
        ValueError: a file does not exist, or an argument is out of range.

    Example:

    >>> dense, small = measure_latency(["dense.tflite", "small.tflite"])
    """
    several = not isinstance(paths, (str, os.PathLike))
    files = list(paths) if several else [paths]
    if not files or runs < 1:
        raise ValueError(
            "Arguments `paths` and `runs` must name at least one file and one "
            f"run. Received: paths={paths!r}, runs={runs}"
        )
    programs = [_program(path, num_threads) for path in files]
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
    medians = [float(np.median(spent)) * 1e6 for spent in times]
    return medians if several else medians[0]


def _program(path, num_threads):
    interpreter = open_tflite(path, num_threads)
    for details in interpreter.get_input_details():
        shape = [1 if size < 1 else size for size in details["shape"]]
        if list(shape) != list(details["shape"]):
            interpreter.resize_tensor_input(details["index"], shape)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        array = rng.random(details["shape"]).astype(details["dtype"])
        interpreter.set_tensor(details["index"], array)
    return interpreter.invoke
