import contextlib
import logging
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from l0keras.callbacks.raise_on_nan import NonFiniteError

_log = logging.getLogger(__name__)
_STATISTICS = ("moving_mean", "moving_variance")
# What calls its layers in loops, from which no statistics come out.
_LOOPS = (keras.layers.TimeDistributed, keras.layers.RNN)


def refresh_batch_norm(
    model: keras.Model, data, batches: int = 100, *, batch_size: int = 32
) -> int:
    """Measures the statistics of batch normalization anew.

    The moving mean and variance of each `BatchNormalization` layer become
    plain averages over batches, all with the same weight: of each batch's
    mean, and of its variance. Every layer normalizes by the statistics of the
    batch meanwhile, as in training, and hands that on; all other layers do
    what they do at test time. Nothing else changes: neither weights nor
    seeds, momenta or `trainable` flags. Frozen layers are measured too.

    After weights were cut or changed from outside, the moving statistics
    describe another network, and forget it by `momentum` at each step.

    Source: "precise" batch normalization, Wu and Johnson, "Rethinking 'Batch'
    in BatchNorm" (arXiv:2105.07576), section 3; there, dropout is active.

    Args:
        model: a built `keras.Model`, with nested ones in it or without.
        data: examples of inputs: an array with a batch axis, or a dictionary
            of arrays by the names of the inputs; or batches of them: a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or another iterable.
            Arrays and batches may be tuples of inputs and targets; the
            targets are ignored. Arrays are shuffled, always in the same way,
            and what fills no batch is left out.
        batches: the largest number of batches, at least 1.
        batch_size: the number of examples in a batch of arrays.

    Returns:
        The number of layers that were measured, 0 for a model without them:
        then nothing is computed, and the log says so.

    Raises:
        ValueError: `model` is no built model, `data` has no batch, or a
            number is below 1.
        NonFiniteError: statistics are NaN or infinite. No layer was changed.

    Example:

    >>> small = l0keras.strip(gated)
    >>> l0keras.callbacks.refresh_batch_norm(small, images)
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            f"Argument `model` must be a built keras.Model. Received: {model!r}"
        )
    for name, value in (("batches", batches), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"Argument `{name}` must be an integer of at least 1. "
                f"Received: {name}={value!r}"
            )
    layers = _layers_of(model)
    if not layers:
        _log.info(
            "Model '%s' has no batch normalization to measure.", model.name
        )
        return 0
    sums, seen, count = {}, {}, 0
    with _collected(layers) as collected:
        step = _compiled(model, collected)
        for x in _batches(data, batches, batch_size):
            count += 1
            for index, pairs in step(x).items():
                for pair in pairs:
                    values = [ops.convert_to_numpy(value) for value in pair]
                    sums[index] = np.add(
                        sums.get(index, 0.0), values, dtype="float64"
                    )
                    seen[index] = seen.get(index, 0) + 1
    if not count:
        raise ValueError(
            "Argument `data` must have at least one batch. Received: none"
        )
    _assign(layers, {index: sums[index] / seen[index] for index in sums})
    return len(sums)


def _layers_of(model):
    """The layers to measure by their places in the model."""
    looped = set()
    for layer in model._flatten_layers():
        if isinstance(layer, _LOOPS):
            looped.update(map(id, layer._flatten_layers()))
    found = {}
    for layer in model._flatten_layers():
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        if id(layer) in looped:
            _log.warning(
                "Layer '%s' keeps its moving statistics: it is called in a "
                "loop over steps, from which none come out.",
                layer.name,
            )
        elif layer.built:
            found[str(len(found))] = layer
    return found


@contextlib.contextmanager
def _collected(layers):
    """Lets layers normalize by their batch, and note its statistics.

    It gives a dictionary, from the keys of `layers` to lists of pairs of
    tensors, one for each call. The variables are assigned to only within a
    `StatelessScope`.
    """
    collected = {}
    try:
        for index, layer in layers.items():
            # Past `__setattr__`, which tracks what it is given.
            vars(layer)["call"] = _measuring(layer, index, collected)
        yield collected
    finally:
        for layer in layers.values():
            vars(layer).pop("call", None)


def _measuring(layer, index, collected):
    call = layer.call

    def measure(inputs, training=None, mask=None):
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        pair = layer._moments(ops.cast(inputs, dtype), mask)
        for name, value in zip(_STATISTICS, pair):
            getattr(layer, name).assign(value)
        collected.setdefault(index, []).append(pair)
        return call(inputs, training=False, mask=mask)

    return measure


def _compiled(model, collected):
    """A function of a batch of inputs that gives its statistics."""
    arguments = {"training": False} if model._call_has_training_arg else {}

    def step(trainable, others, x):
        collected.clear()
        model.stateless_call(trainable, others, x, **arguments)
        return dict(collected)

    backend = keras.backend.backend()
    if backend == "tensorflow" and not model.run_eagerly:
        import tensorflow as tf

        step = tf.function(step, reduce_retracing=True)
    elif backend == "jax" and not model.run_eagerly:
        import jax

        step = jax.jit(step)
    values = [
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
        )
    ]
    if backend == "tensorflow":
        # A variable as an argument is another thing than its value.
        values = keras.tree.map_structure(ops.convert_to_tensor, values)
    return lambda x: step(*values, x)


def _batches(data, batches, batch_size):
    """Batches of inputs, tensors of the running backend."""
    if isinstance(data, tuple):
        data = data[0] if data else []
    if hasattr(data, "shape") or isinstance(data, dict):
        data = _batches_of_arrays(data, batch_size)
    elif isinstance(data, keras.utils.PyDataset):
        data = _batches_of_dataset(data)
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise ValueError(
            "Argument `data` must be an array, a dictionary of arrays, or "
            f"batches of them. Received: data={data!r}"
        )
    for number, batch in enumerate(data):
        x = keras.utils.unpack_x_y_sample_weight(batch)[0]
        yield keras.tree.map_structure(
            lambda value: ops.convert_to_tensor(np.asarray(value)), x
        )
        if number + 1 == batches:
            # An iterator may have no further one, or take long to make it.
            return


def _batches_of_arrays(data, batch_size):
    data = keras.tree.map_structure(np.asarray, data)
    lengths = {len(array) for array in keras.tree.flatten(data)}
    if len(lengths) != 1:
        raise ValueError(
            "Argument `data` must have as many examples of each input. "
            f"Received: {sorted(lengths)}"
        )
    (size,) = lengths
    # Of all examples one batch, where they are few.
    batch_size = max(1, min(batch_size, size))
    order = np.random.default_rng(0).permutation(size)
    for stop in range(batch_size, size + 1, batch_size):
        rows = order[stop - batch_size : stop]
        yield keras.tree.map_structure(lambda array: array[rows], data)


def _batches_of_dataset(data):
    number = 0
    while data.num_batches is None or number < data.num_batches:
        yield data[number]
        number += 1


def _assign(layers, averages):
    for index, values in averages.items():
        if not np.isfinite(values).all():
            raise NonFiniteError(
                f"The statistics of layer '{layers[index].name}' are not "
                "finite. No layer was changed."
            )
    for index, (mean, variance) in averages.items():
        layer = layers[index]
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
        if layer.renorm:
            deviation = np.sqrt(variance + layer.epsilon)
            layer.moving_stddev.assign(deviation)
            layer.renorm_stddev.assign(deviation)
            layer.renorm_mean.assign(mean)
