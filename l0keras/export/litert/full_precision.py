"""Layers that compute in float32, as LiteRT does on a device."""

import keras

from l0keras.export.litert.attributes import attributes

_FULL = "float32"


def full_precision(layers):
    """Has layers of half precision compute in float32, in a block.

    LiteRT's kernels for CPUs have no half precision. After the block all
    layers are as before.

    Args:
        layers: a list of Keras layers.
    """
    policy = keras.DTypePolicy(_FULL)
    return attributes(
        [(one, "_dtype_policy", policy) for one in layers if is_half(one)]
    )


def is_half(layer):
    """Whether a layer computes in float16 or bfloat16."""
    return str(getattr(layer, "compute_dtype", _FULL)) in (
        "float16",
        "bfloat16",
    )


def check_dtypes(inputs, layers):
    """Checks that LiteRT has numbers as a model computes with.

    Args:
        inputs: the `Input`s of the model.
        layers: its layers, those of Keras 3 or of `tf_keras`.

    Raises:
        ValueError: an input or a layer is in float64, an input has strings,
            or Keras has quantized a layer.
    """
    doubles = [f"input '{i.name}'" for i in inputs if i.dtype == "float64"]
    doubles += [
        f"layer '{layer.name}'"
        for layer in layers
        if str(getattr(layer, "compute_dtype", _FULL)) == "float64"
    ]
    if doubles:
        raise ValueError(
            "Argument `model` must compute in float32: LiteRT has no kernels "
            "for float64. Build it again with inputs and layers of "
            "`dtype='float32'`, and give it the weights: "
            f"`new.set_weights(model.get_weights())`. Received: {doubles[0]} "
            f"in float64{_more(doubles)}"
        )
    strings = [one.name for one in inputs if one.dtype == "string"]
    if strings:
        raise ValueError(
            "Argument `model` must have inputs of numbers: LiteRT looks up no "
            "strings. Export the part of the model behind the layers that "
            f"read them. Received: input '{strings[0]}' of strings"
            f"{_more(strings)}"
        )
    quantized = [
        layer
        for layer in layers
        if isinstance(
            getattr(layer, "dtype_policy", None),
            keras.dtype_policies.QuantizedDTypePolicy,
        )
    ]
    if quantized:
        mode = quantized[0].dtype_policy.quantization_mode
        raise ValueError(
            "Argument `model` must not be quantized by Keras: LiteRT lacks "
            "the operations that `keras.Model.quantize` puts in. Export the "
            "model as it was before, with `quantization='int8'` or "
            "'dynamic'. Received: layer "
            f"'{quantized[0].name}' quantized to {mode!r}{_more(quantized)}"
        )


def _more(found):
    return f", and {len(found) - 1} more" if len(found) > 1 else ""
