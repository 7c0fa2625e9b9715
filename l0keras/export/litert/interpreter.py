import os


def open_tflite(file, num_threads=1):
    """An `ai_edge_litert` interpreter for a file, or a `ValueError`.

    Args:
        file: the path of a `.tflite` file, or the bytes of one.
        num_threads: an integer, at least 1.
    """
    if not isinstance(num_threads, int) or num_threads < 1:
        raise ValueError(
            "Argument `num_threads` must be an integer of at least 1. "
            f"Received: num_threads={num_threads!r}"
        )
    # Imported late: only this module needs it, and it takes a while.
    from ai_edge_litert.interpreter import Interpreter

    if isinstance(file, bytes):
        return Interpreter(model_content=file, num_threads=num_threads)
    path = os.fspath(file)
    if not os.path.isfile(path):
        raise ValueError(
            f"Argument `path` must name a .tflite file. Received: {path!r}, "
            "no such file"
        )
    return Interpreter(model_path=path, num_threads=num_threads)
