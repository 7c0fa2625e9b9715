"""How much memory something takes, whoever allocates it."""

import concurrent.futures
import ctypes
import gc
import multiprocessing


def in_a_process(function, *arguments):
    """Calls a function in a fresh process, so that all memory is its own.

    Args:
        function: one that `pickle` can name.
        *arguments: what `pickle` can write.

    Returns:
        What the function returns.

    Raises:
        concurrent.futures.process.BrokenProcessPool: the process was killed,
            as one that takes too much memory is.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def resident():
    """The bytes that this process holds in memory, without garbage."""
    gc.collect()
    # The C library keeps what was freed, unless told otherwise.
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def forget_peak():
    """Lets `peak` begin anew."""
    # See proc(5); TensorFlow's buffers are none that tracemalloc sees.
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
    raise RuntimeError(f"/proc/self/status says nothing of {name}.")
