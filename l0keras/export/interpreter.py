import os


def open_tflite(path, num_threads=1):
    """An `ai_edge_litert` interpreter for a file, or a `ValueError`.

    Args:
        path: the path of a `.tflite` file.
        num_threads: an integer, at least 1.
    """
    if not isinstance(num_threads, int) or num_threads < 1:
        raise ValueError(
            "Argument `num_threads` must be an integer of at least 1. "
            f"Received: num_threads={num_threads!r}"
        )
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ValueError(
            f"Argument `path` must name a .tflite file. Received: {path!r}, "
            "no such file"
        )
    # Imported late: only this module needs it, and it takes a while.
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=path, num_threads=num_threads)
