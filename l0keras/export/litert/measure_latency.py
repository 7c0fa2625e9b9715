import os
import time

import numpy as np

from l0keras.export.litert.run_tflite import open_tflite


def measure_latency(paths, num_threads=1, runs=1000, max_seconds=2.0):
    """Times LiteRT files on random inputs, one example at a time.

    Several files are run in turns, so that whatever else the machine does
    weighs on all of them alike and their ratios mean something.

    Args:
        paths: the path of a `.tflite` file, or a list of paths.
        num_threads: an integer, at least 1.
        runs: how often each file is run at most.
        max_seconds: after about so many seconds for each file no further
            runs are started, but there are at least 10.

    Returns:
        The median time of a run in microseconds, a float; for a list of
        paths a list of floats.

    Raises:
        ValueError: no such file, or an argument out of range.

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
    # Short turns: long enough for the caches to be this file's own.
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
