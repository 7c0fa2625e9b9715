import dataclasses
import gzip
import os
import tempfile

import keras
import numpy as np
from keras import ops

from l0keras.export.measure_latency import measure_latency
from l0keras.export.quiet import quiet
from l0keras.export.run_tflite import run_tflite
from l0keras.gates import gates_of
from l0keras.graph import as_functional
from l0keras.strip import strip

# How far the file may stray from the model, as a share of the largest output
# and at least absolutely.
TOLERANCE = 1e-5
HALF_PRECISION_TOLERANCE = 1e-2
# LiteRT sums in another order, and a hundred layers may make much of that. So
# the file may also stray by as much as the model itself does, times a factor,
# when its inputs change by a few roundings.
ROUNDING = 1e-6
ROUNDING_FACTOR = 10


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """A LiteRT file that was run and found to compute what its model does.

    Attributes:
        path: where it is, a string.
        bytes: its size.
        gzip_bytes: its size after gzip.
        latency_us: the median time of one example on one thread, in
            microseconds on this machine.
        max_difference: the largest absolute difference between its outputs
            and the model's on random inputs.
    """

    path: str
    bytes: int
    gzip_bytes: int
    latency_us: float
    max_difference: float


def export_tflite(model, path):
    """Writes a model as a LiteRT file and checks the file by running it.

    A model with gates is stripped first. The file takes batches of any size.
    It is run on random inputs with `ai_edge_litert` before it gets its name,
    so that at `path` there is either a file that works or what was there
    before.

    Args:
        model: a built `Sequential` or functional model. It is not changed.
        path: where to write, ending in `.tflite`, in a directory that exists.

    Returns:
        A `TFLiteFile`: size, latency and the largest difference found.

    Raises:
        ValueError: `path` or `model` is not as above; the backend is not
            TensorFlow.
        RuntimeError: the file's outputs differ from the model's by more than
            1e-5 (1e-2 where a layer computes in half precision), absolutely
            and as a share of the largest output, and by more than rounding
            errors in its inputs explain, or are not finite.

    Example:

    >>> file = export_tflite(model, "model.tflite")
    >>> file.bytes, file.latency_us
    """
    path = _checked(path)
    as_functional(model)
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "LiteRT files are written with the TensorFlow backend only; save "
            "the model and load it under KERAS_BACKEND=tensorflow. Received: "
            f"backend {keras.backend.backend()!r}"
        )
    if gates_of(model):
        model = strip(model)
    parent = os.path.dirname(os.path.abspath(path))
    with tempfile.TemporaryDirectory(prefix=".tflite-", dir=parent) as folder:
        draft = os.path.join(folder, "model.tflite")
        with quiet():
            model.export(draft, format="litert", verbose=False)
            difference = _difference(model, draft)
            latency = measure_latency(draft)
        with open(draft, "rb") as file:
            content = file.read()
        os.replace(draft, path)
    return TFLiteFile(
        path=path,
        bytes=len(content),
        gzip_bytes=len(gzip.compress(content, mtime=0)),
        latency_us=latency,
        max_difference=difference,
    )


def _checked(path):
    path = os.fspath(path)
    parent = os.path.dirname(os.path.abspath(path))
    if not path.endswith(".tflite") or not os.path.isdir(parent):
        raise ValueError(
            "Argument `path` must end in '.tflite' and lie in a directory "
            f"that exists. Received: path={path!r}"
        )
    return path


def _difference(model, path):
    """The largest difference on random inputs, or a `RuntimeError`."""
    specs = as_functional(model).input
    inputs = keras.tree.map_structure(_random, specs)
    expected = _outputs(model, inputs)
    shaken = _outputs(model, keras.tree.map_structure(_shaken, inputs))
    names = [spec.name for spec in keras.tree.flatten(specs)]
    flat = keras.tree.flatten(inputs)
    given = dict(zip(names, flat, strict=True)) if len(flat) > 1 else flat[0]
    outputs = run_tflite(path, given)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    tolerance = TOLERANCE
    if any(
        "16" in getattr(layer, "compute_dtype", "float32")
        for layer in model._flatten_layers()
    ):
        tolerance = HALF_PRECISION_TOLERANCE
    largest = 0.0
    for output, wanted, near in zip(outputs, expected, shaken, strict=True):
        difference = np.max(np.abs(output - wanted), initial=0.0)
        allowed = max(
            tolerance * max(1.0, np.max(np.abs(wanted), initial=0.0)),
            ROUNDING_FACTOR * np.max(np.abs(near - wanted), initial=0.0),
        )
        # `not <=` also refuses NaN.
        if not difference <= allowed:
            raise RuntimeError(
                f"The LiteRT file of model '{model.name}' differs from the "
                f"model by {difference:.3g} on random inputs, where "
                f"{allowed:.3g} is allowed; it was not written."
            )
        largest = max(largest, float(difference))
    return largest


def _outputs(model, inputs):
    outputs = keras.tree.flatten(model(inputs, training=False))
    return [np.asarray(ops.convert_to_numpy(x), "float64") for x in outputs]


def _shaken(array):
    if array.dtype != "float32":
        return array
    return array * np.float32(1 + ROUNDING)


def _random(tensor):
    rng = np.random.default_rng(0)
    # Unknown sizes, but for the batch, are those of a short sequence.
    shape = (8, *(size or 32 for size in tensor.shape[1:]))
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if "float" in dtype:
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)
