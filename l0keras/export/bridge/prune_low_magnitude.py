import keras
import numpy as np

from l0keras.export.bridge.tfmot import import_tfmot
from l0keras.export.bridge.training import Training
from l0keras.export.bridge.training import to_train
from l0keras.export.bridge.weights import copy_from_tf_keras
from l0keras.export.bridge.wrapped import kernels
from l0keras.export.bridge.wrapped import wrap

SCHEDULES = ("polynomial", "constant")


def prune_low_magnitude(
    model: keras.Model,
    data,
    *,
    sparsity: float | dict[str, float],
    epochs: int = 1,
    schedule: str = "polynomial",
    optimizer=None,
    loss=None,
    validation_data=None,
    verbose: int | str = "auto",
) -> keras.Model:
    """Trains a model while its smallest weights are set to 0, by tfmot.

    Pruned are the kernels of trainable dense, convolutional, separable
    (pointwise) and embedding layers. All other weights are trained and not
    pruned. Scattered zeros alone make no file smaller: `strip` removes units
    whose weights are all 0, and `quantize_aware` can preserve other zeros.

    Args:
        model: a built `Sequential` or functional Keras 3 model without gates.
            It is not changed.
        data: a `tf.data.Dataset` of batches `(x, y)` or `(x, y, weights)`, or
            such a tuple of arrays, which are trained in batches of 32.
        sparsity: a float between 0 and 1, the share of zeros in each kernel
            at the end; or a dictionary from names of layers to shares of
            their own, where layers that it does not name are not pruned.
        epochs: an integer, at least 1.
        schedule: `"polynomial"`: the share of zeros grows from 0 to
            `sparsity` in the first half of the training; `"constant"`: it is
            `sparsity` from the first step on.
        optimizer: a Keras 3 optimizer or its name, translated to tf_keras
            without its state; `None` for the optimizer of the compiled model,
            or Adam at 1e-4 if it has none.
        loss: as in `compile`; `None` for the loss of the compiled model.
        validation_data: like `data`.
        verbose: as in `fit`.

    Returns:
        A clone of `model` with the trained weights, a Keras 3 model, not
        compiled.

    Raises:
        ImportError: tensorflow-model-optimization is not installed.
        ValueError: an argument is not as above, the model has masks, or
            `to_tf_keras` refuses it.
        RuntimeError: a kernel has fewer zeros than asked for.

    Example:

    >>> pruned = l0keras.export.prune_low_magnitude(
    ...     model, (images, labels), sparsity=0.8, epochs=5
    ... )
    """
    by_layer = isinstance(sparsity, dict)
    for share in sparsity.values() if by_layer else [sparsity]:
        if not isinstance(share, (int, float)) or not 0 < share < 1:
            raise ValueError(
                "Argument `sparsity` must be a float between 0 and 1, or a "
                "dictionary of such floats. "
                f"Received: sparsity={sparsity!r}"
            )
    if schedule not in SCHEDULES:
        raise ValueError(
            f"Argument `schedule` must be one of {SCHEDULES}. "
            f"Received: schedule={schedule!r}"
        )
    pruning = import_tfmot().sparsity.keras
    converted = to_train(model)
    training = Training(
        model, data, epochs, optimizer, loss, validation_data, verbose
    )
    shares = _by_layer(sparsity, kernels(converted))

    def prune(layer):
        if layer.name not in shares:
            return layer
        plan = _schedule(
            pruning, schedule, shares[layer.name], training.steps * epochs
        )
        return pruning.prune_low_magnitude(layer, pruning_schedule=plan)

    wrapped = wrap(converted, prune)
    training.fit(wrapped, [pruning.UpdatePruningStep()])
    stripped = pruning.strip_pruning(wrapped)
    for name, kernel in kernels(stripped).items():
        # tfmot rounds the number of weights that stay, and keeps at least 1.
        kept = max(1, np.round((1 - shares.get(name, 0)) * kernel.size))
        left = np.count_nonzero(kernel)
        if left > kept:
            raise RuntimeError(
                f"The kernel of '{name}' has {left} weights that are not 0 "
                f"among {kernel.size}; at most {kept:.0f} were asked for."
            )
    return copy_from_tf_keras(stripped, model)


def _by_layer(sparsity, found):
    """The share of zeros of each layer that is pruned, by its name."""
    if not isinstance(sparsity, dict):
        return dict.fromkeys(found, sparsity)
    if not sparsity or not sparsity.keys() <= found.keys():
        raise ValueError(
            "Argument `sparsity` must name layers that can be pruned, of "
            f"{', '.join(found)}. Received: sparsity={sparsity}"
        )
    return sparsity


def _schedule(pruning, name, sparsity, steps):
    if name == "constant":
        return pruning.ConstantSparsity(sparsity, 0, frequency=1)
    end = max(1, steps // 2)
    return pruning.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=sparsity,
        begin_step=0,
        end_step=end,
        # The mask changes about a hundred times, and at the end.
        frequency=_divisor(end),
    )


def _divisor(steps):
    """The largest divisor of `steps` up to a hundredth of it, or 1."""
    widest = max(1, steps // 100)
    return next(width for width in range(widest, 0, -1) if steps % width == 0)
