import keras
import numpy as np

from l0keras.export.bridge.tfmot import import_tfmot
from l0keras.export.bridge.tfmot import import_tfmot_module
from l0keras.export.bridge.training import Training
from l0keras.export.bridge.training import to_train
from l0keras.export.bridge.weights import copy_from_tf_keras
from l0keras.export.bridge.wrapped import kernels
from l0keras.export.bridge.wrapped import wrap


def cluster(
    model: keras.Model,
    data,
    *,
    number_of_clusters: int = 16,
    epochs: int = 1,
    preserve_sparsity: bool = False,
    optimizer=None,
    loss=None,
    validation_data=None,
    verbose: int | str = "auto",
) -> keras.Model:
    """Trains a model whose weights share few values, by tfmot.

    Clustered are the kernels of trainable dense, convolutional, separable
    (pointwise) and embedding layers, each with values of its own. All other
    weights are trained and not clustered. Files with few different weights
    compress better, and `quantize_aware` can preserve the clusters.

    Args:
        model: a built `Sequential` or functional Keras 3 model without gates,
            trained already. It is not changed.
        data: a `tf.data.Dataset` of batches `(x, y)` or `(x, y, weights)`, or
            such a tuple of arrays, which are trained in batches of 32.
        number_of_clusters: an integer, at least 2.
        epochs: an integer, at least 1.
        preserve_sparsity: whether weights that are 0 stay 0. One of the
            clusters is then 0.
        optimizer: a Keras 3 optimizer or its name, translated to tf_keras
            without its state; `None` for the optimizer of the compiled model,
            or Adam at 1e-4 if it has none.
        loss: as in `compile`; `None` for the loss of the compiled model.
        validation_data: like `data`.
        verbose: as in `fit`.

    Returns:
        A clone of `model` with the trained weights, a Keras 3 model, not
        compiled. Each kernel has at most `number_of_clusters` values.

    Raises:
        ImportError: tensorflow-model-optimization is not installed.
        ValueError: an argument is not as above, the model has masks, or
            `to_tf_keras` refuses it.
        RuntimeError: a kernel has more values than asked for, or
            `preserve_sparsity` is `True` and zeros were lost.

    Example:

    >>> clustered = l0keras.export.cluster(
    ...     model, (images, labels), number_of_clusters=16
    ... )
    """
    if not isinstance(number_of_clusters, int) or number_of_clusters < 2:
        raise ValueError(
            "Argument `number_of_clusters` must be an integer of at least 2. "
            f"Received: number_of_clusters={number_of_clusters!r}"
        )
    clustering = import_tfmot().clustering.keras
    converted = to_train(model)
    training = Training(
        model, data, epochs, optimizer, loss, validation_data, verbose
    )
    before = kernels(converted)
    arguments = {
        "number_of_clusters": number_of_clusters,
        "cluster_centroids_init": (
            clustering.CentroidInitialization.KMEANS_PLUS_PLUS
        ),
    }
    cluster_weights = clustering.cluster_weights
    if preserve_sparsity:
        path = "clustering.keras.experimental.cluster"
        cluster_weights = import_tfmot_module(path).cluster_weights
        arguments["preserve_sparsity"] = True
    wrapped = wrap(converted, lambda layer: cluster_weights(layer, **arguments))
    training.fit(wrapped)
    stripped = clustering.strip_clustering(wrapped)
    for name, kernel in kernels(stripped).items():
        values = len(np.unique(kernel))
        if values > number_of_clusters:
            raise RuntimeError(
                f"The kernel of '{name}' has {values} values; at most "
                f"{number_of_clusters} were asked for."
            )
        if preserve_sparsity and np.any(kernel[before[name] == 0]):
            raise RuntimeError(f"Zeros in the kernel of '{name}' were lost.")
    return copy_from_tf_keras(stripped, model)
