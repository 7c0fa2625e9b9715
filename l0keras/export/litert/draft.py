"""Makes a draft of a file and tries it, in the process of the worker.

What fails there is said with the layers that are the reason, and no file.
"""

import os

from l0keras.export.litert import jobs
from l0keras.export.litert.compare import compare
from l0keras.export.litert.culprit import culprit
from l0keras.export.litert.precision import mode_of
from l0keras.export.litert.quantizer import quantize
from l0keras.export.litert.unsupported import explain
from l0keras.export.litert.unsupported import layer_of
from l0keras.export.litert.worker import WORKER
from l0keras.export.litert.worker import WorkerDied
from l0keras.export.litert.worker import WorkFailed

# One example at a time gains nothing from more threads.
THREADS = (1, 2, 4)
# The number of examples in a batch of the comparison.
BATCH_SIZE = 32


def convert(origin, path, settings, batch_size):
    """Writes a file.

    Args:
        origin: the source of the file, see `source`.
        path: the path of the file.
        settings: the quantization, the examples that ranges are measured on,
            and whether zeros take no bytes.
        batch_size: the number of examples in a batch, or `None` for any.

    Raises:
        RuntimeError: the converter refuses the model, or its process ended.
    """
    try:
        origin.convert(path, *settings, batch_size)
    except WorkFailed as error:
        reason = explain(
            str(error),
            origin.operations,
            _float_ops(origin, path, settings, batch_size),
        )
        raise RuntimeError(
            f"LiteRT does not support model '{origin.name}': "
            f"{reason or str(error).strip().splitlines()[0]}. No file was "
            "written."
        ) from error
    except WorkerDied as error:
        place = culprit(origin, path, settings, batch_size)
        raise RuntimeError(
            f"LiteRT's converter ended its process at {place} of model "
            f"'{origin.name}': {error}. No file was written."
        ) from error


def quantize_draft(origin, path, rules, examples):
    """Quantizes a file of floats by rules.

    Returns:
        A tuple of texts: layers that could not be quantized, and why.

    Raises:
        RuntimeError: the quantizer fails.
    """
    try:
        found = WORKER.run(quantize, path, rules, origin.layers, examples)
    except (WorkFailed, WorkerDied) as error:
        raise RuntimeError(
            f"LiteRT's quantizer fails at model '{origin.name}': "
            f"{str(error).strip()}. No file was written."
        ) from error
    return tuple(dict.fromkeys(f"{layer}: {why}" for layer, why in found))


def _float_ops(origin, path, settings, batch_size):
    """The operations of the model's float file, or none if this fails too."""
    quantization, _, _ = settings
    if not mode_of(quantization).optimize:
        return ()
    try:
        origin.convert(path, None, None, False, batch_size)
    except (WorkFailed, WorkerDied):
        # The first error is the one to report.
        return ()
    return _operations(path)


def _operations(path):
    """The operations of a file, or none if it cannot even be opened."""
    try:
        return WORKER.run(jobs.operations, path)
    except (WorkFailed, WorkerDied):
        return ()


def operations_in_floats(origin, path, refused):
    """The operations of a file that compute in floats, with their layers.

    Raises:
        RuntimeError: there are some, and they are `refused`.
    """
    found = []
    for op, place in _in_worker(origin, path, jobs.operations_in_floats, path):
        layer = layer_of(place, origin.operations)
        found.append(f"{op} of layer '{layer}'" if layer else op)
    found = tuple(dict.fromkeys(found))
    if found and refused:
        raise RuntimeError(
            f"The LiteRT file of model '{origin.name}' computes in floats: "
            f"{', '.join(found)}; `integer_only=False` allows this. The file "
            "was not written."
        )
    return found


def run_and_compare(path, origin, writer, quantization, groups, batch_size):
    """Runs a file on examples and compares it with its model.

    Returns:
        As `compare`.

    Raises:
        RuntimeError: the file cannot be run, or differs.
    """
    size = batch_size or BATCH_SIZE
    job, arguments = jobs.run, ()
    if writer is not origin:
        job = jobs.run_steps
        arguments = writer.states, writer.sequential
    outputs = _in_worker(origin, path, job, path, groups, size, *arguments)
    return compare(outputs, origin, quantization, groups, size)


def time_draft(path, origin, shapes):
    """The latencies of a file in microseconds, by the number of threads."""
    threads = [count for count in THREADS if count <= os.cpu_count()]
    return _in_worker(origin, path, jobs.latencies, path, threads, shapes)


def _in_worker(origin, path, job, *args):
    """Runs a file in the process of the worker."""
    try:
        return WORKER.run(job, *args)
    except WorkFailed as error:
        reason = explain(str(error), origin.operations, _operations(path))
        raise RuntimeError(
            f"LiteRT cannot run the file of model '{origin.name}': "
            f"{f'{reason}: ' if reason else ''}{str(error).strip()} It was "
            "not written."
        ) from error
    except WorkerDied as error:
        ops = sorted({op for op, _ in _operations(path)})
        raise RuntimeError(
            "LiteRT ended its process when it ran the file of model "
            f"'{origin.name}', which has the operations {', '.join(ops)}: "
            f"{error}. It was not written."
        ) from error
