import gzip
import os

import numpy as np

from l0keras.export.litert.compare import random_inputs
from l0keras.export.litert.draft import convert
from l0keras.export.litert.draft import operations_in_floats
from l0keras.export.litert.draft import quantize_draft
from l0keras.export.litert.draft import run_and_compare
from l0keras.export.litert.draft import time_draft
from l0keras.export.litert.precision import Rules
from l0keras.export.litert.precision import check_quantizer
from l0keras.export.litert.precision import mode_of
from l0keras.export.litert.quantization import check_quantization
from l0keras.export.litert.quiet import quiet
from l0keras.export.litert.representative import named_shapes
from l0keras.export.litert.representative import representative_examples
from l0keras.export.litert.run_tflite import interpreter_class
from l0keras.export.litert.source import source
from l0keras.export.litert.streaming import StepSource
from l0keras.export.litert.worker import WORKER
from l0keras.export.micro.check import check_micro
from l0keras.export.micro.check import check_target
from l0keras.export.tflite_file import TFLiteFile


def export_tflite(
    model,
    path: str | os.PathLike,
    quantization: str | dict | None = None,
    representative_data=None,
    sparse_encoding: bool = False,
    batch_size: int | None = None,
    check: bool = True,
    sample_shape=None,
    streaming: bool = False,
    integer_only: bool = False,
    target: str | None = None,
) -> TFLiteFile:
    """Writes a model as a LiteRT file and checks the file by running it.

    A model with gates is stripped first. The file takes batches of any size,
    unless `batch_size` fixes it; its signature has the names of the model's
    inputs and outputs. The file is run with `ai_edge_litert` before it is
    moved to `path`: a file that fails never replaces an older one. All this
    happens in a process of its own, so that a converter or a file that ends
    its process ends in an error here.

    | quantization | weights | arithmetic | tolerance |
    | --- | --- | --- | --- |
    | `None` | float32 | float32 | 1e-5 |
    | `"float16"` | float16 | float32 | 0.01 |
    | `"dynamic"` | int8 | float32, or int8 with ranges found on the fly | 0.1 |
    | `"int8"` | int8 | int8 only, inputs and outputs too | 0.2 |
    | `"int16x8"` | int8 | int16 only, inputs and outputs too | 0.1 |

    The outputs of the file may differ from those of the model by the
    tolerance, absolutely and as a share of the largest output. A larger
    difference is allowed if rounding errors of the inputs explain it, or, up
    to half of the largest output, if rounding the weights alone makes a fifth
    of it. Of outputs of integers the share of numbers that differ counts.
    Layers of half precision compute in float32 in the file, as LiteRT's
    kernels do; the result says which difference that makes.

    Args:
        model: a built `Sequential` or functional model, or a `tf_keras` model
            of `l0keras.export.to_tf_keras` or `quantize_aware`. It is not
            changed.
        path: the path of the file, ending in `.tflite`, in a directory that
            exists.
        quantization: a row of the table above; or rules for layers, see
            `Precision`: a dictionary from regular expressions to a
            `Precision` each, or to `None` for floats. The first expression
            that is found in the name of a layer (by `re.search`), or of one
            that it is a part of, applies; a layer without one stays as it is.
            Inputs and outputs are integers if everything between is. What of
            a rule is not possible is in `kept` of the result.
        representative_data: examples of inputs, at least 32, all of them
            finite; up to 500 are used. `"int8"`, `"int16x8"` and some rules
            choose the range of each tensor by them, except for a model of
            `quantize_aware`, which has learned its ranges. The file is
            compared with the model on them, or on random inputs if `None`.
            They are an array with a batch axis, or for several inputs a
            dictionary of arrays by their names; or a `tf.data.Dataset`, a
            generator or another iterable of batches, or a function that
            returns one. Batches may be pairs of inputs and targets; the
            targets are ignored.
        sparse_encoding: whether to leave out zero weights. This helps models
            in floats with scattered zeros, which `strip` cannot remove. LiteRT
            computes some sparse layers wrongly if their number of inputs is
            not a multiple of 4; the check finds this. `strip(model,
            round_to=4)` makes it a multiple of 4, except for a layer that
            reads a part of the model's inputs.
        batch_size: an integer that fixes the size of a batch, as
            microcontrollers and accelerators need it. Without, it is that of
            the model's inputs, most often any.
        check: whether to run the file. A file that is not checked may not
            run, or may compute other outputs than the model.
        sample_shape: the shape of one example without the batch axis, a
            tuple, or for several inputs a dictionary of tuples by their
            names, for models with free sizes. The file is timed at this
            size, or at that of the first of the data, or at 32 along each
            free axis; the result says at which. Random inputs have it too.
        streaming: whether the file makes one step of a sequence, for models
            with recurrent layers. Its inputs have one step, and the states
            of recurrent layers, `LAYER_state_0` and so on, are inputs and
            outputs: they are zeros at first, and then what the step before
            gave out. The file is compared with the model step by step over
            whole sequences, those of `representative_data` if given.
        integer_only: whether to refuse an `"int8"` or `"int16x8"` file in
            which an operation computes in floats, as those do for which
            LiteRT has no integers. Without, the result has them in
            `float_ops`.
        target: `"micro"` for a file that TensorFlow Lite for Microcontrollers
            can run: `None`, `"int8"` or `"int16x8"`, in batches of 1 unless
            `batch_size` is given. Layers whose operations it lacks are
            written with others, where there are any; see the guide. The file
            is loaded with it and, if `check` is `True`, run and compared with
            LiteRT: outputs of integers may differ by one step, or as far as
            LiteRT's own do if each number of the inputs changes by one.

    Returns:
        A `TFLiteFile` with the size, the latencies and the largest
        difference.

    Raises:
        ImportError: ai-edge-litert is not installed, and `check` is `True`;
            or tflite-micro is not, and `target` is `"micro"`; or
            litert-quantizer is not, and there are rules.
        ValueError: `path`, `model` or data are not as above; a weight or a
            number of the data is NaN or infinite; the model computes in
            float64, was quantized by Keras or keeps states between batches;
            recurrent layers of an integer file have no fixed number of steps;
            the backend is not TensorFlow.
        RuntimeError: LiteRT does not support an operation, or not in integers
            for `integer_only=True`, which is named with its layer; or the
            outputs of the file are not finite or differ by more than the
            tolerance, or from LiteRT's with the runtime of the target, or
            that lacks an operation; or the converter or LiteRT ended their
            process, with the layer that made them do so.

    Example:

    >>> file = export_tflite(model, "model.tflite", "int8", images[:500])
    >>> file.bytes, file.latency_us[1]
    """
    path = _checked(path)
    check_quantization(quantization, sparse_encoding, batch_size)
    check_target(target, quantization, sparse_encoding)
    mode = mode_of(quantization)
    rules = mode if isinstance(mode, Rules) else None
    integers = mode.integers
    if integer_only and not integers:
        raise ValueError(
            "Argument `integer_only` must be False for quantizations other "
            "than 'int8' and 'int16x8', and rules with these. "
            f"Received: quantization={quantization!r}"
        )
    if check or integer_only or target:
        # Raises before any work if LiteRT is not installed.
        interpreter_class()
    if rules:
        check_quantizer()
    origin = source(model, target)
    if rules:
        rules.check(origin.layers)
    batch_size = origin.batch_size(batch_size)
    if target == "micro":
        batch_size = batch_size or 1
    shapes = named_shapes(sample_shape, origin.inputs)
    examples = _examples(origin, quantization, representative_data, streaming)
    # What the file is to compute.
    writer = StepSource(origin) if streaming else origin
    check_target(target, quantization, sparse_encoding, writer.inputs)
    # It gets ready while the model is saved.
    WORKER.start()
    groups = _groups(examples)
    # With examples the converter chooses ranges, whether asked to or not; and
    # learned ranges are better than those of a few examples.
    measured = None
    if mode.needs_data and not origin.has_ranges:
        measured = writer.steps_of(groups) if streaming else examples
    measured = _repeated(measured, batch_size)
    # The quantizer for rules begins with a file of floats.
    settings = quantization, measured, sparse_encoding
    if rules:
        settings = None, None, sparse_encoding
    parent = os.path.dirname(os.path.abspath(path))
    with WORKER.folder(".tflite-", parent) as folder:
        draft = os.path.join(folder, "model.tflite")
        with quiet():
            convert(writer, draft, settings, batch_size)
            kept = ()
            if rules:
                kept = quantize_draft(origin, draft, rules, measured)
            in_floats = None
            if integers and (check or integer_only):
                in_floats = operations_in_floats(origin, draft, integer_only)
            latency, difference, agreement, halved = {}, None, None, None
            if check:
                if groups is None:
                    groups = [random_inputs(origin.inputs, 8, shapes)]
                difference, agreement, halved = run_and_compare(
                    draft, origin, writer, quantization, groups, batch_size
                )
                shapes = writer.sample_shapes(shapes or _shapes(groups[0]))
                latency = time_draft(draft, origin, shapes)
            micro = None
            if target == "micro":
                examples = None
                if check:
                    examples = _batches(writer, groups, streaming, batch_size)
                micro = check_micro(draft, origin, examples)
        with open(draft, "rb") as file:
            content = file.read()
        os.replace(draft, path)
    return TFLiteFile(
        path=path,
        quantization=quantization,
        bytes=len(content),
        gzip_bytes=len(gzip.compress(content, mtime=0)),
        latency_us=latency,
        sample_shape=_single(shapes) if check else None,
        max_difference=difference,
        precision_difference=halved,
        top1_agreement=agreement,
        states=tuple(writer.states),
        float_ops=in_floats,
        micro=micro,
        kept=kept,
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


def _examples(origin, quantization, data, streaming):
    mode = mode_of(quantization)
    if origin.stateful and not streaming:
        raise ValueError(
            "Argument `model` must not keep states between batches, unless "
            "`streaming=True`, which makes inputs and outputs of them. "
            f"Received: layer '{origin.stateful[0]}' with stateful=True"
        )
    if mode.io_type and origin.endless and not streaming:
        raise ValueError(
            "Argument `model` must have a fixed number of steps for "
            f"quantization {quantization!r}, for loops compute in floats: "
            "build it for inputs of one length, or ask for 'dynamic' or for "
            "`streaming=True`. Received: any number of steps in layer "
            f"'{origin.endless[0]}'"
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


def _groups(examples):
    """Examples of the same shape in one batch, each."""
    if examples is None:
        return None
    groups = {}
    for one in examples:
        shapes = tuple(array.shape for array in one.values())
        groups.setdefault(shapes, []).append(one)
    return [
        {
            name: np.concatenate([one[name] for one in group])
            for name in group[0]
        }
        for group in groups.values()
    ]


def _batches(writer, groups, streaming, batch_size):
    """Single examples of the file's inputs, each repeated to a batch."""
    if streaming:
        singles = writer.steps_of(groups)
    else:
        singles = [
            {name: array[i : i + 1] for name, array in group.items()}
            for group in groups
            for i in range(len(next(iter(group.values()))))
        ]
    return _repeated(singles, batch_size)


def _shapes(arrays):
    """The shapes of one example."""
    return {name: array.shape[1:] for name, array in arrays.items()}


def _single(shapes):
    """The shape of the only input, or the shapes by name."""
    return next(iter(shapes.values())) if len(shapes) == 1 else shapes


def _repeated(examples, times):
    if examples is None or times is None:
        return examples
    return [
        {name: np.repeat(array, times, 0) for name, array in one.items()}
        for one in examples
    ]
