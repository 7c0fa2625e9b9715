"""The comparison of a LiteRT file with its model."""

import functools

import numpy as np

from l0keras.export.litert.precision import label_of
from l0keras.export.litert.precision import mode_of
from l0keras.proof import random_array

# LiteRT sums in another order, and many layers may amplify the rounding. So
# the outputs may also differ by this factor times the change of the model's
# outputs when its inputs change by this share.
ROUNDING = 1e-6
ROUNDING_FACTOR = 10
# Activations are rounded too, at every layer; of the models of
# `trainers.studies.exports` none needs more than 3 times what weights do.
WEIGHTS_FACTOR = 5
# But what differs by half of the largest output says nothing any more.
MOST = 0.5
# The size of random inputs along an axis of any size.
FREE_SIZE = 32


def compare(outputs, source, quantization, groups, batch_size):
    """Compares the outputs of a file with those of the model.

    Args:
        outputs: a list with a dictionary for each group, of arrays by the
            names of the outputs.
        source: the `Source` that the file was converted from.
        quantization: the quantization of the file, as for `mode_of`.
        groups: a list of dictionaries of arrays by the names of the inputs.
        batch_size: the number of examples in a batch of the model.

    Returns:
        Three numbers: the largest absolute difference; the share of argmaxes
        along the last axis that agree, or `None` if no output has several
        classes there; and the largest absolute difference that computing in
        float32 makes, or `None` if the model does so anyway.

    Raises:
        RuntimeError: an output differs by more than the tolerance, or has
            another shape.
    """
    largest, same, by_precision = 0.0, [], []
    for inputs, found in zip(groups, outputs, strict=True):
        expected = _floats(source.outputs_for(inputs, batch_size))
        noise = _Noise(source, quantization, inputs, batch_size)
        for name, wanted in expected.items():
            difference = _checked(found[name], wanted, name, noise)
            largest = max(largest, difference)
            if wanted.ndim > 1 and wanted.shape[-1] > 1:
                agree = np.argmax(wanted, -1) == np.argmax(found[name], -1)
                same.append(agree.ravel())
        if source.half_precision:
            own = _floats(source.own_outputs_for(inputs, batch_size))
            by_precision += [
                np.max(np.abs(own[name] - wanted), initial=0.0)
                for name, wanted in expected.items()
            ]
    agreement = float(np.mean(np.concatenate(same))) if same else None
    return (
        largest,
        agreement,
        float(max(by_precision)) if by_precision else None,
    )


class _Noise:
    """By how much outputs change without anything being wrong.

    Args:
        source, quantization, batch_size: as for `compare`.
        inputs: a group of it.
    """

    def __init__(self, source, quantization, inputs, batch_size):
        self.source = source
        self.quantization = quantization
        self.mode = mode_of(quantization)
        self._inputs = inputs
        self._batch_size = batch_size

    @functools.cached_property
    def shaken(self):
        """The outputs for inputs that are changed by a rounding error."""
        shaken = {name: _shaken(one) for name, one in self._inputs.items()}
        return _floats(self.source.outputs_for(shaken, self._batch_size))

    @functools.cached_property
    def rounded(self):
        """The outputs with weights of few bits, or `None` for floats."""
        if self.mode.bits is None:
            return None
        outputs = self.source.rounded_outputs_for(
            self._inputs, self.mode.bits, self._batch_size
        )
        return None if outputs is None else _floats(outputs)

    @functools.cached_property
    def coarse(self):
        """The outputs for inputs of int8, or `None` for inputs of others."""
        if self.mode.io_type != "int8":
            return None
        coarse = {name: _coarse(one) for name, one in self._inputs.items()}
        return _floats(self.source.outputs_for(coarse, self._batch_size))


def _checked(found, wanted, name, noise):
    """The largest difference of an output, if it is not too large."""
    source, mode = noise.source, noise.mode
    if found.shape != wanted.shape:
        raise RuntimeError(
            f"The LiteRT file of model '{source.name}' has output "
            f"'{name}' of shape {found.shape}, and the model has "
            f"shape {wanted.shape}; the file was not written."
        )
    measure, size = _largest, max(1.0, _largest(wanted, 0.0))
    if np.issubdtype(found.dtype, np.integer):
        # One class more is not a small difference.
        measure, size = _share, 1.0
    difference = measure(found, wanted)
    allowed = mode.tolerance * size
    # `not <=` also refuses NaN.
    if difference <= allowed:
        return difference
    allowed = max(
        allowed, ROUNDING_FACTOR * measure(noise.shaken[name], wanted)
    )
    reason = ""
    if noise.rounded is not None:
        alone = measure(noise.rounded[name], wanted)
        allowed = max(allowed, min(WEIGHTS_FACTOR * alone, MOST * size))
        reason = (
            f" Weights of {mode.bits} bits alone change that output by "
            f"{alone:.3g}."
        )
    if not difference <= allowed:
        if noise.coarse is not None:
            alone = measure(noise.coarse[name], wanted)
            reason += f" Inputs of 8 bits alone change it by {alone:.3g}."
        raise RuntimeError(
            f"The LiteRT file of model '{source.name}' differs from the "
            f"model by {difference:.3g} in output '{name}'; "
            f"{allowed:.3g} is allowed with quantization "
            f"{label_of(noise.quantization)}.{reason} The file was not "
            "written."
        )
    return difference


def _largest(array, other):
    return float(np.max(np.abs(array - other), initial=0.0))


def _share(array, other):
    """The share of numbers that are others."""
    return float(np.mean(array != other)) if array.size else 0.0


def random_inputs(inputs, examples=8, sample_shape=None):
    """Random arrays by the names of inputs, for floats from a normal.

    Args:
        inputs: a list of inputs with `name`, `shape` and `dtype`.
        examples: the number of examples.
        sample_shape: the shapes of an example by the names of the inputs.
            Without, free sizes, except for the batch, become 32.
    """
    rng = np.random.default_rng(0)
    arrays = {}
    for one in inputs:
        shape = tuple(size or FREE_SIZE for size in one.shape[1:])
        shape = (sample_shape or {}).get(one.name, shape)
        arrays[one.name] = random_array((examples, *shape), one.dtype, rng)
    return arrays


def _shaken(array):
    if array.dtype != "float32":
        return array
    return array * np.float32(1 + ROUNDING)


def _coarse(array):
    """Rounds to 255 steps between the least and the largest number."""
    if array.dtype != "float32":
        return array
    low, high = min(array.min(), 0), max(array.max(), 0)
    step = (high - low) / 255 or np.float32(1)
    return np.round(array / step) * step


def _floats(outputs):
    return {name: array.astype("float64") for name, array in outputs.items()}
