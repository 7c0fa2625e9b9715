import dataclasses
import gzip
import os
import tempfile

import numpy as np

from l0keras.export.litert.compare import compare
from l0keras.export.litert.compare import random_inputs
from l0keras.export.litert.measure_latency import measure_latency
from l0keras.export.litert.quantization import QUANTIZATIONS
from l0keras.export.litert.quantization import check_quantization
from l0keras.export.litert.quantization import converter_settings
from l0keras.export.litert.quiet import quiet
from l0keras.export.litert.representative import representative_examples
from l0keras.export.litert.run_tflite import interpreter_class
from l0keras.export.litert.run_tflite import open_tflite
from l0keras.export.litert.run_tflite import run_signature
from l0keras.export.litert.source import source
from l0keras.export.litert.unsupported import explain
from l0keras.export.litert.unsupported import tflite_ops

# One example at a time gains nothing from more threads.
THREADS = (1, 2, 4)
# The number of examples in a batch of the comparison.
BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """A LiteRT file with its size, its latency and its errors.

    Attributes:
        path: the path of the file, a string.
        quantization: the way its numbers are written, see `export_tflite`.
        bytes: its size in bytes.
        gzip_bytes: its size in bytes after gzip.
        latency_us: the median time of one example in microseconds on this
            machine, a dictionary from the number of threads; empty if the file
            was not run.
        max_difference: the largest absolute difference between outputs of the
            file and of the model, or `None` if the file was not run.
        top1_agreement: the share of predictions (argmaxes over the last axis)
            in which file and model agree; `None` for outputs without classes,
            and if the file was not run.
    """

    path: str
    quantization: str | None
    bytes: int
    gzip_bytes: int
    latency_us: dict
    max_difference: float | None
    top1_agreement: float | None

    def __str__(self):
        lines = [
            f"{self.path}: {self.bytes:,} bytes, {self.gzip_bytes:,} after "
            f"gzip, {self.quantization or 'float32'}"
        ]
        for threads, microseconds in self.latency_us.items():
            lines.append(
                f"  {microseconds:.1f} us for one example on {threads} "
                f"thread{'s' if threads > 1 else ''}"
            )
        if self.max_difference is not None:
            lines.append(
                f"  largest difference from the model {self.max_difference:.2g}"
            )
        if self.top1_agreement is not None:
            lines.append(
                f"  same prediction as the model for "
                f"{100 * self.top1_agreement:.2f} % of the examples"
            )
        return "\n".join(lines)


def export_tflite(
    model,
    path: str | os.PathLike,
    quantization: str | None = None,
    representative_data=None,
    sparse_encoding: bool = False,
    batch_size: int | None = None,
    check: bool = True,
) -> TFLiteFile:
    """Writes a model as a LiteRT file and checks the file by running it.

    A model with gates is stripped first. The file takes batches of any size,
    unless `batch_size` fixes it; its signature has the names of the model's
    inputs and outputs. The file is run with `ai_edge_litert` before it is
    moved to `path`: a file that fails never replaces an older one.

    | quantization | weights | arithmetic | tolerance |
    | --- | --- | --- | --- |
    | `None` | float32 | float32 | 1e-5 |
    | `"float16"` | float16 | float32 | 0.01 |
    | `"dynamic"` | int8 | float32, or int8 with ranges found on the fly | 0.1 |
    | `"int8"` | int8 | int8 only, inputs and outputs too | 0.2 |
    | `"int16x8"` | int8 | int16 only, inputs and outputs too | 0.1 |

    The outputs of the file may differ from those of the model by the
    tolerance, absolutely and as a share of the largest output. If a layer
    computes in half precision, the tolerance is at least 0.01. A larger
    difference is allowed if rounding errors of the inputs explain it.

    Args:
        model: a built `Sequential` or functional model, or a `tf_keras` model
            of `l0keras.export.to_tf_keras` or `quantize_aware`. It is not
            changed.
        path: the path of the file, ending in `.tflite`, in a directory that
            exists.
        quantization: a row of the table above.
        representative_data: examples of inputs, at least 32; up to 500 are
            used. `"int8"` and `"int16x8"` choose the range of each tensor by
            them, except for a model of `quantize_aware`, which has learned
            its ranges. The file is compared with the model on them, or on
            random inputs if `None`. They are an array with a batch axis, or
            for several inputs a dictionary of arrays by their names; or a
            `tf.data.Dataset`, a generator or another iterable of batches, or
            a function that returns one. Batches may be pairs of inputs and
            targets; the targets are ignored.
        sparse_encoding: whether to leave out zero weights. This helps models
            in floats with scattered zeros, which `strip` cannot remove. LiteRT
            computes some sparse layers wrongly if their number of inputs is
            not a multiple of 4; the check finds this. `strip(model,
            round_to=4)` makes it a multiple of 4, except for a layer that
            reads a part of the model's inputs.
        batch_size: an integer that fixes the size of a batch, as
            microcontrollers and accelerators need it. It also lets recurrent
            layers of float files loop. Otherwise they are unrolled, which
            takes more bytes and, for many steps, more time.
        check: whether to run the file. A file that is not checked may not
            run, or may compute other outputs than the model.

    Returns:
        A `TFLiteFile` with the size, the latencies and the largest
        difference.

    Raises:
        ImportError: ai-edge-litert is not installed, and `check` is `True`.
        ValueError: `path`, `model` or data are not as above; a weight is NaN
            or infinite; recurrent layers of an integer file have no fixed
            number of steps; the backend is not TensorFlow.
        RuntimeError: LiteRT does not support an operation, which is named
            with its layer; or the outputs of the file are not finite or
            differ by more than the tolerance.

    Example:

    >>> file = export_tflite(model, "model.tflite", "int8", images[:500])
    >>> file.bytes, file.latency_us[1]
    """
    path = _checked(path)
    check_quantization(quantization, sparse_encoding, batch_size)
    if check:
        # Raises before any work if LiteRT is not installed.
        interpreter_class()
    origin = source(model)
    examples = _examples(origin, quantization, representative_data)
    settings = converter_settings(
        quantization,
        # Learned ranges are better than ranges of a few examples.
        None if origin.has_ranges else _repeated(examples, batch_size),
        sparse_encoding,
    )
    parent = os.path.dirname(os.path.abspath(path))
    with tempfile.TemporaryDirectory(prefix=".tflite-", dir=parent) as folder:
        draft = os.path.join(folder, "model.tflite")
        with quiet():
            content = _convert(origin, settings, batch_size)
            with open(draft, "wb") as file:
                file.write(content)
            latency, difference, agreement = {}, None, None
            if check:
                inputs = _stacked(examples) or random_inputs(origin.inputs)
                difference, agreement = _run(
                    draft, origin, quantization, inputs
                )
                latency = {
                    threads: measure_latency(draft, threads)
                    for threads in THREADS
                    if threads <= os.cpu_count()
                }
        os.replace(draft, path)
    return TFLiteFile(
        path=path,
        quantization=quantization,
        bytes=len(content),
        gzip_bytes=len(gzip.compress(content, mtime=0)),
        latency_us=latency,
        max_difference=difference,
        top1_agreement=agreement,
    )


def _checked(path):
    path = os.fspath(path)
    parent = os.path.dirname(os.path.abspath(path))
    if not path.endswith(".tflite") or not os.path.isdir(parent):
        raise ValueError(
            "Argument `path` must end in '.tflite' and lie in a directory "
            f"that exists. Received: path={path!r}"
        )
    if os.path.isdir(path) or not os.access(parent, os.W_OK):
        raise ValueError(
            "Argument `path` must be a file that can be written. "
            f"Received: path={path!r}"
        )
    return path


def _examples(origin, quantization, data):
    mode = QUANTIZATIONS[quantization]
    if mode.optimize and not mode.float_type and origin.endless:
        # The converter would crash the whole process.
        raise ValueError(
            "Argument `model` must have a fixed number of steps for "
            f"quantization {quantization!r}. Received: any number of steps in "
            f"layer '{origin.endless[0]}'"
        )
    if origin.has_ranges and quantization != "int8":
        raise ValueError(
            "Argument `quantization` must be 'int8' for a model of "
            "`quantize_aware`, which was trained in int8. "
            f"Received: quantization={quantization!r}"
        )
    if mode.io_type == "int16":
        for one in origin.inputs:
            if "float" not in one.dtype:
                raise ValueError(
                    "Argument `quantization` must not be 'int16x8' for models "
                    "with integer inputs: LiteRT has no ranges for them. "
                    f"Received: input '{one.name}' of dtype {one.dtype}"
                )
    if data is not None:
        return representative_examples(data, origin.inputs)
    if mode.needs_data and not origin.has_ranges:
        raise ValueError(
            "Argument `representative_data` must be given for quantization "
            f"{quantization!r}: examples of inputs, on which the ranges of "
            "tensors are measured. Received: None"
        )
    return None


def _stacked(examples):
    if examples is None:
        return None
    shapes = {tuple(array.shape for array in one.values()) for one in examples}
    if len(shapes) > 1:
        # Sequences of several lengths do not go into one batch.
        examples = examples[:1]
    return {
        name: np.concatenate([one[name] for one in examples])
        for name in examples[0]
    }


def _repeated(examples, times):
    if examples is None or times is None:
        return examples
    return [
        {name: np.repeat(array, times, 0) for name, array in one.items()}
        for one in examples
    ]


def _convert(origin, settings, batch_size):
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        return origin.convert(settings, batch_size)
    except (ConverterError, RuntimeError, ValueError) as error:
        reason = explain(
            str(error), origin.layers, _float_ops(origin, settings, batch_size)
        )
        raise RuntimeError(
            f"LiteRT does not support model '{origin.name}': "
            f"{reason or str(error).strip().splitlines()[0]}. No file was "
            "written."
        ) from error


def _float_ops(origin, settings, batch_size):
    """The operations of the model's float file, or none if this fails too."""
    if not settings["optimizations"]:
        return ()
    try:
        settings = converter_settings(None, None, False)
        content = origin.convert(settings, batch_size)
        return tflite_ops(open_tflite(content))
    except Exception:
        # The first error is the one to report.
        return ()


def _run(path, origin, quantization, inputs):
    interpreter = open_tflite(path)
    try:
        outputs = run_signature(interpreter, inputs, BATCH_SIZE)
    except RuntimeError as error:
        ops = tflite_ops(interpreter)
        reason = explain(str(error), origin.layers, ops)
        raise RuntimeError(
            f"LiteRT cannot run the file of model '{origin.name}': "
            f"{reason or str(error).strip()}. It was not written."
        ) from error
    return compare(outputs, origin, quantization, inputs, BATCH_SIZE)
