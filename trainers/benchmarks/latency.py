"""The latency of LiteRT files."""

import l0keras
from trainers.benchmarks.measure import format_table
from trainers.benchmarks.measure import summarize


def benchmark_tflite(paths, thread_counts, rounds):
    """Times LiteRT files, one example at a time.

    Args:
        paths: a list of `.tflite` files, the one to compare with first.
        thread_counts: a list of numbers of threads of LiteRT.
        rounds: the number of times that each is timed; a time is the median
            of 100 runs.

    Returns:
        A dictionary from each number of threads to a summary of `summarize`,
        for each path.

    Raises:
        ValueError: no such file, the same file twice, or no number of
            threads.
    """
    if len(set(paths)) < len(paths):
        raise ValueError(
            f"Argument `tflite` must name each file once. Received: {paths}"
        )
    counts = [int(text) if str(text).isdigit() else 0 for text in thread_counts]
    if not counts or min(counts) < 1:
        raise ValueError(
            "Argument `tflite_threads` must be integers of at least 1 with "
            f"commas between. Received: tflite_threads={thread_counts}"
        )
    seconds = {count: {path: [] for path in paths} for count in counts}
    for _ in range(rounds):
        for count in counts:
            times = l0keras.export.measure_latency(paths, count, runs=100)
            for path, microseconds in zip(paths, times, strict=True):
                seconds[count][path].append(1e-6 * microseconds)
    return {count: summarize(spent) for count, spent in seconds.items()}


def format_tflite_table(summary):
    """Sets the results of `benchmark_tflite` as lines of text."""
    return "\n\n".join(
        f"{count} thread{'s' if count > 1 else ''}\n{format_table(rows)}"
        for count, rows in summary.items()
    )
