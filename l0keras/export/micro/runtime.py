"""TensorFlow Lite for Microcontrollers in the process of the worker.

Its text goes to stderr, so errors here have it in theirs.
"""

import contextlib
import pathlib
import subprocess
import sys

import numpy as np

from l0keras.export.litert.quiet import quiet
from l0keras.export.litert.run_tflite import open_tflite
from l0keras.export.litert.run_tflite import quantized
from l0keras.export.litert.unsupported import tflite_ops
from l0keras.export.micro.resolver import ops_of

# More than any microcontroller has.
_LARGEST_ARENA = 1 << 26
# By what share floats change to see how far rounding errors grow.
_SHARE = 1e-6


def micro_runtime():
    """The module that runs files as microcontrollers do.

    Raises:
        ImportError: tflite-micro is not installed. The message has the
            command that installs it.
    """
    try:
        from tflite_micro import runtime
    except ImportError as error:
        raise ImportError(
            "tflite-micro runs files as microcontrollers do. Install it with "
            "`pip install 'l0keras[micro]'`."
        ) from error
    return runtime


def load(path):
    """Loads a file, and finds the smallest arena in which it loads.

    Args:
        path: the path of the file.

    Returns:
        The operations of the file as the schema names them, a list, and the
        size of the arena in bytes.

    Raises:
        RuntimeError: it does not load, with what the runtime said.
    """
    content = _read(path)
    _open(content, _LARGEST_ARENA)
    program = pathlib.Path(__file__).with_name("smallest_arena.py")
    size = subprocess.check_output([sys.executable, "-P", program, path])
    return ops_of(content), int(size)


def differences(path, examples, arena_bytes):
    """Runs a file on examples, and LiteRT's own kernels too.

    Args:
        path: the path of the file.
        examples: a list of dictionaries of arrays by the names of the inputs,
            with as many examples each as a batch of the file has.
        arena_bytes: the size of the arena.

    Returns:
        A dictionary by the names of the outputs: the largest difference; the
        largest change of LiteRT's output if each number of the inputs changes
        by one step, or by a millionth for floats; the largest number of the
        output; and whether it is of floats. Of integers, all are in steps.
    """
    with _quiet_errors():
        litert = open_tflite(path, delegates=False)
        runner = litert.get_signature_runner()
        micro = _open(_read(path), arena_bytes)
        rng = np.random.default_rng(0)
        found = {}
        for one in examples:
            inputs = _raw(one, runner)
            expected = runner(**inputs)
            moved = runner(**_moved(inputs, rng))
            for name, output in _run(micro, inputs, litert, runner).items():
                wanted = expected[name].astype("float64")
                sizes = [
                    np.abs(output - wanted),
                    np.abs(moved[name] - wanted),
                    np.abs(wanted),
                ]
                sizes = [float(np.max(size)) for size in sizes]
                if not np.all(np.isfinite(sizes)):
                    raise RuntimeError(f"output '{name}' is not finite")
                before = found.get(name, [0.0] * 3)
                found[name] = list(map(max, before, sizes))
        return {
            name: (*sizes, np.issubdtype(expected[name].dtype, np.floating))
            for name, sizes in found.items()
        }


def first_difference(path, examples, share):
    """The first operation that the two runtimes compute differently.

    Args:
        path: the path of the file.
        examples: as in `differences`.
        share: the share of the largest number of an output by which it may
            differ.

    Returns:
        A pair as in `tflite_ops`, or `None`.
    """
    with _quiet_errors():
        litert = open_tflite(path, delegates=False, preserve=True)
        runner = litert.get_signature_runner()
        runtime = micro_runtime()
        micro = runtime.Interpreter.from_bytes(
            _read(path),
            arena_size=_LARGEST_ARENA,
            intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors,
        )
        ops = litert._get_ops_details()
        differs = [False] * len(ops)
        for one in examples:
            inputs = _raw(one, runner)
            runner(**inputs)
            _run(micro, inputs, litert, runner)
            for place, op in enumerate(ops):
                for index in op["outputs"]:
                    wanted = litert.get_tensor(index).astype("float64")
                    found = micro.GetTensor(int(index), 0)["tensor_data"]
                    largest = share * np.max(np.abs(wanted), initial=1e-3)
                    far = np.max(np.abs(found - wanted), initial=0) > largest
                    differs[place] |= bool(far)
        named = zip(tflite_ops(litert), differs, strict=True)
        return next((op for op, far in named if far), None)


def _read(path):
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def _quiet_errors():
    """Hides what C++ writes, in a block; errors have it in their text."""
    try:
        with quiet():
            yield
    except Exception as error:
        said = "\n".join(getattr(error, "__notes__", ()))
        raise RuntimeError(f"{said}\n{error}".strip()) from error


def _open(content, arena_bytes):
    with _quiet_errors():
        return micro_runtime().Interpreter.from_bytes(
            content, arena_size=arena_bytes
        )


def _raw(example, runner):
    """The inputs in the types of the file."""
    details = runner.get_input_details()
    return {
        name: quantized(np.asarray(array), details[name])
        for name, array in example.items()
    }


def _moved(inputs, rng):
    """Inputs of which each number is a step higher or lower."""
    moved = {}
    for name, array in inputs.items():
        signs = rng.choice((-1, 1), array.shape)
        if np.issubdtype(array.dtype, np.floating):
            new = array * (1 + _SHARE * signs)
        elif array.dtype in (np.int8, np.int16):
            limits = np.iinfo(array.dtype)
            new = np.clip(array.astype(int) + signs, limits.min, limits.max)
        else:
            # An index: its neighbour is something else.
            new = array
        moved[name] = new.astype(array.dtype)
    return moved


def _run(micro, inputs, litert, runner):
    """The outputs as they are in the file, by their names."""
    places = _places(litert.get_input_details(), runner.get_input_details())
    for name, array in inputs.items():
        micro.set_input(array, places[name])
    micro.invoke()
    places = _places(litert.get_output_details(), runner.get_output_details())
    return {
        name: micro.get_output(place).astype("float64")
        for name, place in places.items()
    }


def _places(tensors, named):
    order = [tensor["index"] for tensor in tensors]
    return {name: order.index(one["index"]) for name, one in named.items()}
