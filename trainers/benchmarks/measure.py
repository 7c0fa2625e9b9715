"""Times that can be compared, because all were taken in turn, and memory."""

import concurrent.futures
import ctypes
import gc
import multiprocessing
import statistics
import time

from trainers.run import tables


def interleave(candidates, rounds):
    """Times functions in turn.

    Args:
        candidates: a dictionary from names to functions without arguments.
            Each is called once before anything is timed.
        rounds: the number of times that each is timed.

    Returns:
        A dictionary from the names to lists of `rounds` durations in
        seconds; entries of the same index were taken one after another.
    """
    for function in candidates.values():
        function()
    seconds = {name: [] for name in candidates}
    order = list(candidates)
    for _ in range(rounds):
        for name in order:
            start = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - start)
        order.reverse()
    return seconds


def summarize(seconds, per_call=1):
    """Condenses the durations of `interleave`.

    Args:
        seconds: a dictionary from names to lists of durations; the others are
            compared with the first.
        per_call: the number of units of work in one duration.

    Returns:
        A dictionary from names to the `median_us` and the quartiles `q1_us`
        and `q3_us` of one unit of work, and `ratio`, `ratio_q1` and
        `ratio_q3`: the median and quartiles, over the rounds, of the
        duration divided by that of the first name in the same round.
    """
    base = next(iter(seconds.values()))
    summary = {}
    for name, values in seconds.items():
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        ratios = [value / other for value, other in zip(values, base)]
        r1, ratio, r3 = statistics.quantiles(ratios, n=4, method="inclusive")
        summary[name] = {
            "median_us": 1e6 * median / per_call,
            "q1_us": 1e6 * q1 / per_call,
            "q3_us": 1e6 * q3 / per_call,
            "ratio": ratio,
            "ratio_q1": r1,
            "ratio_q3": r3,
        }
    return summary


def format_table(summary):
    """Sets a summary as lines of text, a line for each name."""
    rows = [["", "median us", "quartiles", "ratio", "quartiles"]]
    for name, row in summary.items():
        rows.append(
            [
                name,
                f"{row['median_us']:.1f}",
                f"{row['q1_us']:.1f}-{row['q3_us']:.1f}",
                f"{row['ratio']:.3f}",
                f"{row['ratio_q1']:.3f}-{row['ratio_q3']:.3f}",
            ]
        )
    return tables.text(rows)


def in_a_process(function, *arguments):
    """Calls a function in a fresh process, so that all memory is its own.

    Args:
        function: one that `pickle` can name.
        *arguments: values that `pickle` can write.

    Returns:
        The value of the function.

    Raises:
        concurrent.futures.process.BrokenProcessPool: the process was killed,
            perhaps because it took too much memory.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def resident():
    """The bytes that this process holds in memory, without garbage."""
    gc.collect()
    # The C library keeps freed memory unless told otherwise.
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def forget_peak():
    """Lets `peak` begin anew."""
    # See proc(5); tracemalloc does not see TensorFlow's buffers.
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak():
    """The most bytes that this process held since `forget_peak`."""
    return _status("VmHWM")


def _status(name):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}.")
