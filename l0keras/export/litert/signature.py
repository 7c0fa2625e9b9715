import os

import numpy as np

from l0keras.export.litert.run_tflite import open_tflite


def signature(path: str | os.PathLike) -> dict[str, dict]:
    """Reads the inputs and outputs of a LiteRT file.

    Args:
        path: the path of a `.tflite` file.

    Returns:
        A dictionary with the keys `"inputs"` and `"outputs"`. Each value is a
        dictionary from the name of a tensor to a dictionary with its `dtype`,
        a string, and its `shape`, a tuple with `None` for free sizes. A
        quantized tensor also has `scale` and `zero_point`: an integer in it
        stands for the number `scale * (integer - zero_point)`.

    Raises:
        ImportError: ai-edge-litert is not installed.
        ValueError: the file does not exist.

    Example:

    >>> l0keras.export.signature("int8.tflite")["inputs"]["image"]["scale"]
    """
    runner = open_tflite(path).get_signature_runner()
    return {
        "inputs": _described(runner.get_input_details()),
        "outputs": _described(runner.get_output_details()),
    }


def _described(details):
    found = {}
    for name, tensor in details.items():
        described = {
            "dtype": np.dtype(tensor["dtype"]).name,
            "shape": tuple(
                None if size < 0 else int(size)
                for size in tensor["shape_signature"]
            ),
        }
        scale, zero_point = tensor["quantization"]
        if scale:
            described |= {"scale": scale, "zero_point": zero_point}
        found[name] = described
    return found
