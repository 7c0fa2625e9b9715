"""The ways to write numbers into a LiteRT file."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Quantization:
    """One way to write numbers.

    Attributes:
        tolerance: the largest difference between outputs of the file and of
            the model, absolutely and as a share of the largest output.
        bits: the number of bits of a weight; `None` for floats.
        ops: the operations that the converter may use, a name in
            `tf.lite.OpsSet`.
        optimize: whether weights are quantized.
        float_type: the type of weights that stay floats, a name in `tf`.
        io_type: the type in the place of float inputs and outputs, a name in
            `tf`.
    """

    tolerance: float
    bits: int | None = None
    ops: str = "TFLITE_BUILTINS"
    optimize: bool = True
    float_type: str | None = None
    io_type: str | None = None

    @property
    def integers(self):
        """Whether all is to be computed in integers."""
        return self.io_type is not None

    @property
    def needs_data(self):
        """Whether ranges of tensors are measured on examples."""
        return self.integers


QUANTIZATIONS = {
    None: Quantization(1e-5, optimize=False),
    "float16": Quantization(1e-2, float_type="float16"),
    "dynamic": Quantization(0.1, 8),
    "int8": Quantization(0.2, 8, "TFLITE_BUILTINS_INT8", io_type="int8"),
    "int16x8": Quantization(
        0.1,
        8,
        "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8",
        io_type="int16",
    ),
}


def check_quantization(quantization, sparse_encoding, batch_size=None):
    """Checks three arguments of `export_tflite` before any work.

    Rules for layers are checked elsewhere, see `Rules`.

    Raises:
        ValueError: the quantization is unknown, the sparse encoding is for
            quantized weights, or the batch size is below 1.
    """
    by_name = not isinstance(quantization, dict)
    if by_name and quantization not in QUANTIZATIONS:
        raise ValueError(
            "Argument `quantization` must be one of "
            f"{', '.join(map(repr, QUANTIZATIONS))}. "
            f"Received: quantization={quantization!r}"
        )
    if batch_size is not None and not batch_size >= 1:
        raise ValueError(
            "Argument `batch_size` must be an integer of at least 1 or None. "
            f"Received: batch_size={batch_size!r}"
        )
    if sparse_encoding and quantization is not None:
        raise ValueError(
            "Argument `sparse_encoding` must be False for quantized files: "
            "LiteRT converts them, but then either refuses to run them (its "
            "kernels read sparse weights as floats only) or computes wrong "
            "numbers. Strip the model instead, which removes the zeros, or "
            "keep the weights in floats. Received: "
            f"sparse_encoding=True, quantization={quantization!r}"
        )


def converter_settings(quantization, examples, sparse_encoding):
    """The settings of a `tf.lite.TFLiteConverter`.

    Args:
        quantization: a key of `QUANTIZATIONS`.
        examples: the examples that the ranges of tensors are measured on, a
            list of dictionaries from names of inputs to arrays with a batch
            axis; or `None` for a model with learned ranges, whose tensors
            without a range stay floats.
        sparse_encoding: whether to leave out zeros.

    Returns:
        A dictionary from the names of attributes to values. The value of
        `target_spec` is again such a dictionary.
    """
    import tensorflow as tf

    mode = QUANTIZATIONS[quantization]
    settings = {"optimizations": [], "target_spec": {}}
    # Without examples the converter refuses to use integers only.
    ops = "TFLITE_BUILTINS" if examples is None else mode.ops
    settings["target_spec"]["supported_ops"] = [getattr(tf.lite.OpsSet, ops)]
    if mode.optimize:
        settings["optimizations"].append(tf.lite.Optimize.DEFAULT)
    if sparse_encoding:
        settings["optimizations"].append(tf.lite.Optimize.EXPERIMENTAL_SPARSITY)
    if mode.float_type:
        settings["target_spec"]["supported_types"] = [
            getattr(tf, mode.float_type)
        ]
    if mode.io_type:
        settings["inference_input_type"] = getattr(tf, mode.io_type)
        settings["inference_output_type"] = getattr(tf, mode.io_type)
    if examples is not None:
        settings["representative_dataset"] = lambda: iter(examples)
    return settings


def configure(converter, settings):
    """Sets up a `tf.lite.TFLiteConverter` as `converter_settings` says."""
    for name, value in settings.items():
        if name == "target_spec":
            for key, entry in value.items():
                setattr(converter.target_spec, key, entry)
        else:
            setattr(converter, name, value)
