import warnings

import keras
import numpy as np

from l0keras.export.bridge.ranges import settle_ranges
from l0keras.export.bridge.tfmot import import_tf_keras
from l0keras.export.bridge.tfmot import import_tfmot
from l0keras.export.bridge.tfmot import import_tfmot_module
from l0keras.export.bridge.training import Training
from l0keras.export.bridge.training import to_train

# Activations of layers that tfmot can quantize.
ACTIVATIONS = {
    *("gelu", "linear", "relu", "sigmoid", "softmax", "swish", "tanh")
}
# Layers whose zeros and clusters tfmot can preserve.
PRESERVED = ("Conv2D", "Dense")
# The largest number of values that tfmot preserves as clusters.
MOST_CLUSTERS = 1024
# Layers that tfmot replaces by other layers.
TRANSFORMED = ("SeparableConv1D", "SeparableConv2D")
# Layers that tfmot folds a following normalization into.
FOLDED_INTO = ("Conv2D", "DepthwiseConv2D", "Dense")
# Layers unknown to tfmot whose outputs may be quantized.
OUTPUT_ONLY = (
    *("Average", "BatchNormalization", "Maximum", "Minimum", "Multiply"),
    *("Rescaling", "Subtract"),
)

# By these ranges are chosen at first.
EXAMPLES = 256


def quantize_aware(
    model: keras.Model,
    data,
    *,
    epochs: int = 1,
    optimizer=None,
    loss=None,
    validation_data=None,
    preserve_sparsity: bool = False,
    preserve_clusters: bool = False,
    verbose: int | str = "auto",
):
    """Trains a model while it computes with 8 bit numbers, by tfmot.

    Layers that tfmot cannot quantize, such as LSTM, compute in float and are
    converted to float. A normalization that does not follow a layer with
    weights computes in float too, and only its output is quantized. All other
    layers are wrapped and keep their names. tfmot preserves zeros and
    clusters in Dense and Conv2D layers only.

    The range of an activation starts as that of the first 256 examples, and
    moves by a thousandth with each batch.

    Args:
        model: a built `Sequential` or functional Keras 3 model without gates,
            in float32, trained already. It is not changed.
        data: a `tf.data.Dataset` of batches `(x, y)` or `(x, y, weights)`, or
            such a tuple of arrays, which are trained in batches of 32.
        epochs: an integer, at least 1.
        optimizer: a Keras 3 optimizer or its name, translated to tf_keras
            without its state; `None` for the optimizer of the compiled model,
            or Adam at 1e-4 if it has none.
        loss: as in `compile`; `None` for the loss of the compiled model.
        validation_data: like `data`.
        preserve_sparsity: whether weights that are 0 stay 0.
        preserve_clusters: whether a kernel with at most 1024 different
            values, such as `cluster` makes, gets no more values. A Dense
            kernel is counted as a whole, a Conv2D kernel in each output
            channel, because each of its channels has its own scale.
        verbose: as in `fit`.

    Returns:
        A compiled `tf_keras.Model`, for
        `l0keras.export_tflite(aware, path, "int8")`.

    Raises:
        ImportError: tensorflow-model-optimization is not installed.
        ValueError: an argument is not as above, `to_tf_keras` refuses the
            model, or tfmot cannot quantize any of its layers.
        RuntimeError: zeros or clusters were lost that should be preserved.

    Example:

    >>> aware = l0keras.export.quantize_aware(model, (images, labels))
    >>> l0keras.export_tflite(aware, "model.tflite", "int8")
    """
    quantization = import_tfmot().quantization.keras
    registry = quantization.default_8bit.Default8BitQuantizeRegistry()
    converted = to_train(model, lambda layer: _separate(layer, registry))
    _check_policies(converted, model)
    training = Training(
        model, data, epochs, optimizer, loss, validation_data, verbose
    )
    scheme = _scheme(preserve_sparsity, preserve_clusters)
    before = _kernels(converted)
    models = import_tf_keras().models
    # tfmot reads graphs with flat inputs and outputs only.
    flat = models.Model(converted.inputs, converted.outputs)
    annotated = _annotate(flat, registry, scheme)
    with quantization.quantize_scope(), warnings.catch_warnings():
        # tfmot warns of kernels without clusters, which have none to preserve.
        warnings.simplefilter("ignore")
        aware = quantization.quantize_apply(
            annotated, scheme, quantized_layer_name_prefix=""
        )
    aware = models.Model(
        keras.tree.pack_sequence_as(converted.input, aware.inputs),
        keras.tree.pack_sequence_as(converted.output, aware.outputs),
        name=converted.name,
    )
    settle_ranges(aware, training.inputs(EXAMPLES))
    training.fit(aware)
    for name, (stored, quantized) in _quantized_kernels(aware).items():
        was = before.get(name)
        if was is None:
            continue
        if preserve_sparsity and np.any(quantized[was == 0]):
            raise RuntimeError(f"Zeros in the kernel of '{name}' were lost.")
        values = _clusters(was)
        if preserve_clusters and values <= MOST_CLUSTERS:
            if _clusters(stored, each=stored.ndim == 4) > values:
                raise RuntimeError(
                    f"The kernel of '{name}' had {values} values and now has "
                    f"{_clusters(stored, each=stored.ndim == 4)}."
                )
    return aware


def _separate(layer, registry):
    """Whether a layer can be quantized once its activation is a layer."""
    name = _activation(layer)
    known = registry.supports(layer) or type(layer).__name__ in TRANSFORMED
    return (
        known
        and name not in ACTIVATIONS
        and type(layer).__name__ != "Activation"
    )


def _check_policies(converted, model):
    for layer in converted.layers:
        if layer.weights and layer.compute_dtype != "float32":
            raise ValueError(
                "Argument `model` must compute in float32. Received: model "
                f"'{model.name}' whose layer '{layer.name}' computes in "
                f"{layer.compute_dtype}"
            )


def _scheme(preserve_sparsity, preserve_clusters):
    quantization = import_tfmot().quantization.keras
    if preserve_clusters:
        module = import_tfmot_module(
            "quantization.keras.collab_opts.cluster_preserve."
            "default_8bit_cluster_preserve_quantize_scheme"
        )
        return module.Default8BitClusterPreserveQuantizeScheme(
            preserve_sparsity=bool(preserve_sparsity)
        )
    if preserve_sparsity:
        return quantization.collab_opts.Default8BitPrunePreserveQuantizeScheme()
    return quantization.default_8bit.Default8BitQuantizeScheme()


def _annotate(model, registry, scheme):
    """A clone of a model in which the layers to quantize are marked."""
    configs = import_tfmot_module(
        "quantization.keras.default_8bit.default_8bit_quantize_configs"
    )
    annotate = import_tfmot().quantization.keras.quantize_annotate_layer
    keeping = scheme.get_quantize_registry()

    def clone(layer):
        kind = type(layer).__name__
        if kind == "BatchNormalization" and _folds(layer):
            return annotate(layer)
        strange = kind == "Activation" and _activation(layer) not in ACTIVATIONS
        if kind in OUTPUT_ONLY or strange:
            return annotate(layer, configs.Default8BitOutputQuantizeConfig())
        known = registry.supports(layer) and keeping.supports(layer)
        if known or kind in TRANSFORMED:
            return annotate(layer)
        if not layer.weights and type(keeping) is not type(registry):
            # The registries of the schemes that preserve weights claim to
            # support every layer without weights.
            return annotate(layer, configs.NoOpQuantizeConfig())
        return layer

    return import_tf_keras().models.clone_model(model, clone_function=clone)


def _activation(layer):
    return getattr(getattr(layer, "activation", None), "__name__", "linear")


def _folds(layer):
    """Whether a normalization becomes part of the layer before it."""
    before = layer._inbound_nodes[0].inbound_layers
    return (
        len(layer._inbound_nodes) == 1
        and type(before).__name__ in FOLDED_INTO
        and len(before._outbound_nodes) == 1
        and _activation(before) == "linear"
    )


def _kernels(model):
    return {
        layer.name: np.array(layer.kernel.numpy())
        for layer in model.layers
        if type(layer).__name__ in PRESERVED
    }


def _quantized_kernels(model):
    """The stored and the quantized kernel of each layer, by its name."""
    found = {}
    for wrapper in model.layers:
        for weight, quantizer, variables in getattr(
            wrapper, "_weight_vars", []
        ):
            quantized = quantizer(weight, False, weights=variables)
            arrays = weight.numpy(), quantized.numpy()
            found[wrapper.layer.name] = arrays
    return found


def _clusters(kernel, each=False):
    """The number of values in a kernel, or the most in an output channel."""
    if not each:
        return len(np.unique(kernel))
    return max(
        len(np.unique(channel)) for channel in np.moveaxis(kernel, -1, 0)
    )
