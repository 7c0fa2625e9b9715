_ROUNDS = 12
_RUNS = 20


def timed(paths, max_seconds=0.2, sample_shape=None):
    """Times LiteRT files, one example on one thread.

    Other work of the machine only ever slows it, and does not always, so the
    best of many short rounds is nearest to what the files take alone. On a
    machine with more work than processors it still differs from one minute to
    the next, for the same file by half and more: compare what was timed in
    one call.

    Args:
        paths: a list of paths of `.tflite` files, which are timed in turns.
        max_seconds: about the longest time for each file in a round.
        sample_shape: as for `measure_latency`.

    Returns:
        A list of microseconds: of each file the least median of a round.
    """
    # Training needs targets, but no files.
    from l0keras.export import measure_latency

    rounds = [
        measure_latency(
            paths,
            runs=_RUNS,
            max_seconds=max_seconds,
            sample_shape=sample_shape,
        )
        for _ in range(_ROUNDS)
    ]
    return [min(medians) for medians in zip(*rounds, strict=True)]
