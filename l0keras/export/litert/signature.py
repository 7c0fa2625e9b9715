import numpy as np

from l0keras.export.litert.run_tflite import open_tflite


def signature(path):
    """What a LiteRT file takes and gives.

    Args:
        path: the path of a `.tflite` file.

    Returns:
        A dictionary with the keys `"inputs"` and `"outputs"`, of dictionaries
        from the names of tensors to their `dtype`, a string, `shape`, with
        `None` for free sizes, and for integers that stand for
        `scale * (integer - zero_point)` their `scale` and `zero_point`.

    Raises:
        ValueError: no such file.

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
