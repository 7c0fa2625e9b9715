"""The check of files for microcontrollers."""

import re

import numpy as np

from l0keras.export.litert import jobs
from l0keras.export.litert.compare import ROUNDING_FACTOR
from l0keras.export.litert.unsupported import layer_of
from l0keras.export.litert.worker import WORKER
from l0keras.export.litert.worker import WorkerDied
from l0keras.export.litert.worker import WorkFailed
from l0keras.export.micro import runtime
from l0keras.export.micro.micro_file import MicroFile
from l0keras.export.micro.resolver import resolver_name

TARGETS = (None, "micro")
QUANTIZATIONS = (None, "int8", "int16x8")
# Its kernels are made to be small, and take their time.
_EXAMPLES = 32
# How tensors begin that are outputs; others have the names of layers.
_OUTPUT = "StatefulPartitionedCall"
# As a share of the largest number of an output, of floats.
_TOLERANCE = 1e-5


def check_target(target, quantization, sparse_encoding, inputs=()):
    """Checks what files for a target may be, before any work.

    Args:
        target: `None` or `"micro"`.
        quantization, sparse_encoding: as in `export_tflite`.
        inputs: the `Input`s of the model.

    Raises:
        ImportError: tflite-micro is needed and not installed.
        ValueError: the target is unknown, or cannot take such files.
    """
    if target not in TARGETS:
        raise ValueError(
            f"Argument `target` must be {' or '.join(map(repr, TARGETS))}. "
            f"Received: target={target!r}"
        )
    if target is None:
        return
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            "Argument `quantization` must be one of "
            f"{', '.join(map(repr, QUANTIZATIONS))} for target 'micro', which "
            "has no kernels for float16 and none for weights of integers with "
            f"inputs of floats. Received: quantization={quantization!r}"
        )
    if sparse_encoding:
        raise ValueError(
            "Argument `sparse_encoding` must be False for target 'micro', "
            "which has no kernels for it. Received: sparse_encoding=True"
        )
    for one in inputs:
        if None in one.shape[1:]:
            raise ValueError(
                "Argument `model` must have inputs of known sizes for target "
                "'micro', which plans its memory before it runs. Received: "
                f"input '{one.name}' of shape {one.shape}"
            )
    runtime.micro_runtime()


def check_micro(path, origin, examples):
    """Loads and runs a file as microcontrollers do.

    Args:
        path: the path of the file.
        origin: the `Source` that it was converted from.
        examples: a list of dictionaries of arrays by the names of the file's
            inputs, with an axis of its batch; `None` to load it only.

    Returns:
        A `MicroFile`.

    Raises:
        RuntimeError: the runtime lacks an operation, which is named with its
            layer; or outputs differ from LiteRT's.
    """
    ops, arena = _run(path, origin, runtime.load, path)
    file = MicroFile(tuple(map(resolver_name, ops)), arena)
    if examples is None:
        return file
    places = np.linspace(0, len(examples) - 1, min(_EXAMPLES, len(examples)))
    examples = [examples[int(place)] for place in places]
    found = _run(path, origin, runtime.differences, path, examples, arena)
    steps, floats = [], []
    for name, (largest, moved, size, in_floats) in found.items():
        if in_floats:
            allowed = max(_TOLERANCE * max(1.0, size), ROUNDING_FACTOR * moved)
            floats.append(largest)
        else:
            allowed = max(1, moved)
            steps.append(round(largest))
        if largest > allowed:
            share = 0.5 * largest / size if size else 0.0
            raise RuntimeError(
                f"The file of model '{origin.name}' has other outputs with "
                "TensorFlow Lite for Microcontrollers than with LiteRT: "
                f"'{name}' differs by {largest:.6g}"
                f"{'' if in_floats else ' steps'}, {allowed:.3g} is allowed"
                f"{_place(path, origin, examples, share)}. The file was not "
                "written."
            )
    return MicroFile(
        file.ops, arena, max(steps, default=None), max(floats, default=None)
    )


def _place(path, origin, examples, share):
    """Where outputs begin to differ, as a part of a sentence."""
    try:
        place = WORKER.run(runtime.first_difference, path, examples, share)
    except (WorkFailed, WorkerDied):
        # The difference is the error to report.
        return ""
    return f", first in {_named(place, origin)}" if place else ""


def _named(place, origin):
    op, path = place
    layer = layer_of(path, origin.operations)
    if path.startswith(_OUTPUT) and len(origin.outputs) == 1:
        # Outputs have names of layers, and of operations.
        (layer,) = origin.outputs
    return f"operation {op}" + (f" of layer '{layer}'" if layer else "")


def _run(path, origin, job, *args):
    try:
        return WORKER.run(job, *args)
    except WorkFailed as error:
        raise RuntimeError(
            "TensorFlow Lite for Microcontrollers cannot run the file of "
            f"model '{origin.name}': {_reason(str(error), path, origin)}. It "
            "was not written."
        ) from error
    except WorkerDied as error:
        raise RuntimeError(
            "TensorFlow Lite for Microcontrollers ended its process with the "
            f"file of model '{origin.name}': {error}. It was not written."
        ) from error


def _reason(text, path, origin):
    """The operations in an error of the runtime, with their layers."""
    ops = WORKER.run(jobs.operations, path)
    missing = re.search(r"find op for builtin opcode '(\w+)'", text)
    if missing:
        places = [_named(op, origin) for op in ops if op[0] == missing[1]]
        places = dict.fromkeys(places or [f"operation {missing[1]}"])
        return f"it lacks {', '.join(places)}"
    node = re.search(r"Node (\w+) \(number (\d+)\) failed", text)
    if node and int(node[2]) < len(ops) and ops[int(node[2])][0] == node[1]:
        place = _named(ops[int(node[2])], origin)
        said = text[: node.start()].strip().splitlines()
        return f"{place} fails" + (f", {said[-1].strip(' .')}" if said else "")
    return text.strip() or "no reason was given"
