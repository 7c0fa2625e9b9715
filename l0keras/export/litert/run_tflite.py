import os

import numpy as np


def run_tflite(
    path: str | os.PathLike,
    inputs,
    batch_size: int | None = None,
    num_threads: int = 1,
) -> np.ndarray | dict[str, np.ndarray]:
    """Runs a LiteRT file on arrays.

    A file with quantized inputs or outputs runs on floats too: float inputs
    are quantized, and quantized outputs become floats, by the scale and the
    zero point in the file.

    Args:
        path: the path of a `.tflite` file written by `export_tflite`.
        inputs: an array with a leading batch axis, or for several inputs a
            dictionary of arrays by the names of the model's inputs.
        batch_size: the number of examples in a batch, an integer; `None` for
            one batch of all. A file with a fixed batch size runs in batches
            of that size.
        num_threads: an integer, at least 1.

    Returns:
        A numpy array, or for several outputs a dictionary of arrays by their
        names.

    Raises:
        ImportError: ai-edge-litert is not installed.
        ValueError: the file does not exist, `inputs` does not fit it, or an
            argument is out of range.

    Example:

    >>> probabilities = run_tflite("model.tflite", images, batch_size=100)
    """
    if batch_size is not None and not batch_size >= 1:
        raise ValueError(
            "Argument `batch_size` must be an integer of at least 1 or None. "
            f"Received: batch_size={batch_size!r}"
        )
    interpreter = open_tflite(path, num_threads)
    outputs = run_signature(interpreter, inputs, batch_size)
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def run_signature(interpreter, inputs, batch_size=None):
    """Runs an interpreter on arrays, see `run_tflite`.

    Returns:
        A dictionary of arrays by the names of the outputs.
    """
    runner = interpreter.get_signature_runner()
    details = runner.get_input_details()
    if not isinstance(inputs, dict):
        if len(details) != 1:
            raise ValueError(
                "Argument `inputs` must be a dictionary with the keys "
                f"{sorted(details)}. Received: {type(inputs).__name__}"
            )
        inputs = {next(iter(details)): inputs}
    inputs = {name: np.asarray(array) for name, array in inputs.items()}
    _check(inputs, details)
    inputs = {
        name: quantized(array, details[name]) for name, array in inputs.items()
    }
    examples = len(next(iter(inputs.values())))
    fixed = next(iter(details.values()))["shape_signature"][0]
    batch_size = (batch_size or examples) if fixed == -1 else int(fixed)
    batches = []
    for start in range(0, examples, batch_size):
        batch = {
            name: array[start : start + batch_size]
            for name, array in inputs.items()
        }
        if fixed != -1:
            batch = {name: full_batch(a, fixed) for name, a in batch.items()}
        batches.append(runner(**batch))
    return {
        name: _dequantized(
            np.concatenate([batch[name] for batch in batches])[:examples],
            details,
        )
        for name, details in runner.get_output_details().items()
    }


def full_batch(array, size):
    """Repeats the last example until a batch is full."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def quantized(array, details):
    """The integers of a quantized tensor for floats, see `signature`."""
    scale, zero_point = details["quantization"]
    if not scale or array.dtype == details["dtype"]:
        return array
    limits = np.iinfo(details["dtype"])
    integers = np.round(array / scale) + zero_point
    return np.clip(integers, limits.min, limits.max).astype(details["dtype"])


def _dequantized(array, details):
    scale, zero_point = details["quantization"]
    if not scale:
        return array
    return np.float32(scale) * (array.astype("float32") - zero_point)


def _check(inputs, details):
    if set(inputs) != set(details):
        raise ValueError(
            f"Argument `inputs` must have the keys {sorted(details)}. "
            f"Received: {sorted(inputs)}"
        )
    lengths = {len(array) for array in inputs.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "Argument `inputs` must have the same number of examples for all "
            f"inputs, at least 1. Received: {sorted(lengths)}"
        )
    for name, array in inputs.items():
        signature = details[name]["shape_signature"][1:]
        fits = len(array.shape[1:]) == len(signature) and all(
            wanted in (-1, size)
            for wanted, size in zip(signature, array.shape[1:])
        )
        dtypes = {np.dtype(details[name]["dtype"])}
        if details[name]["quantization"][0]:
            dtypes.add(np.dtype("float32"))
        if not fits or array.dtype not in dtypes:
            raise ValueError(
                f"Argument `inputs` must be of shape (batch, "
                f"{', '.join(map(str, signature))}) and dtype "
                f"{' or '.join(sorted(map(str, dtypes)))} for input '{name}'. "
                f"Received: shape {array.shape}, dtype {array.dtype}"
            )


def open_tflite(
    file, num_threads=1, delegates=True, preserve=False, argument="path"
):
    """Opens a LiteRT file in an `ai_edge_litert` interpreter.

    Args:
        file: the path of a `.tflite` file, or its bytes.
        num_threads: an integer, at least 1.
        delegates: whether to use delegates, which put their own operations in
            the place of several of the file.
        preserve: whether all tensors can be read after a run.
        argument: the name that the caller's argument has in errors.

    Raises:
        ImportError: ai-edge-litert is not installed.
        ValueError: the file does not exist or is not one of LiteRT, or
            `num_threads` is below 1.
    """
    if not isinstance(num_threads, int) or num_threads < 1:
        raise ValueError(
            "Argument `num_threads` must be an integer of at least 1. "
            f"Received: num_threads={num_threads!r}"
        )
    Interpreter = interpreter_class()
    settings = {
        "num_threads": num_threads,
        "experimental_preserve_all_tensors": preserve,
    }
    if not delegates:
        from ai_edge_litert.interpreter import OpResolverType

        settings["experimental_op_resolver_type"] = (
            OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
    if isinstance(file, bytes):
        return Interpreter(model_content=file, **settings)
    path = os.fspath(file)
    if not os.path.isfile(path):
        raise ValueError(
            f"Argument `{argument}` must be the path of a .tflite file. "
            f"Received: {path!r}, no such file"
        )
    try:
        return Interpreter(model_path=path, **settings)
    except ValueError as error:
        raise ValueError(
            f"Argument `{argument}` must be the path of a .tflite file. "
            f"Received: {path!r} ({error})"
        ) from error


def interpreter_class():
    """The class that runs LiteRT files; its import takes long.

    Raises:
        ImportError: ai-edge-litert is not installed. The message has the
            command that installs it.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "ai-edge-litert runs LiteRT files. Install it with "
            "`pip install 'l0keras[litert]'`."
        ) from error
    return Interpreter
