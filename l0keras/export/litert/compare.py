"""The comparison of a LiteRT file with its model."""

import numpy as np

from l0keras.export.litert.quantization import HALF_PRECISION_TOLERANCE
from l0keras.export.litert.quantization import QUANTIZATIONS
from l0keras.proof import random_array

# LiteRT sums in another order, and many layers may amplify the rounding. So
# the outputs may also differ by this factor times the change of the model's
# outputs when its inputs change by this share.
ROUNDING = 1e-6
ROUNDING_FACTOR = 10


def compare(outputs, source, quantization, inputs, batch_size):
    """Compares the outputs of a file with those of the model.

    Args:
        outputs: a dictionary of arrays by the names of the outputs.
        source: the `Source` that the file was converted from.
        quantization: the quantization of the file, a key of `QUANTIZATIONS`.
        inputs: a dictionary of arrays by the names of the inputs.
        batch_size: the number of examples in a batch of the model.

    Returns:
        A pair of floats: the largest absolute difference, and the share of
        argmaxes along the last axis that agree, or `None` if no output has
        several classes there.

    Raises:
        RuntimeError: an output differs by more than the tolerance, or has
            another shape.
    """
    expected = _outputs(source, inputs, batch_size)
    shaken = {name: _shaken(array) for name, array in inputs.items()}
    shaken = _outputs(source, shaken, batch_size)
    tolerance = QUANTIZATIONS[quantization].tolerance
    if source.half_precision:
        tolerance = max(tolerance, HALF_PRECISION_TOLERANCE)
    largest, same = 0.0, []
    for name, wanted in expected.items():
        if outputs[name].shape != wanted.shape:
            raise RuntimeError(
                f"The LiteRT file of model '{source.name}' has output "
                f"'{name}' of shape {outputs[name].shape}, and the model has "
                f"shape {wanted.shape}; the file was not written."
            )
        difference = np.max(np.abs(outputs[name] - wanted), initial=0.0)
        allowed = max(
            tolerance * max(1.0, np.max(np.abs(wanted), initial=0.0)),
            ROUNDING_FACTOR * np.max(np.abs(shaken[name] - wanted), initial=0),
        )
        # `not <=` also refuses NaN.
        if not difference <= allowed:
            raise RuntimeError(
                f"The LiteRT file of model '{source.name}' differs from the "
                f"model by {difference:.3g} in output '{name}'; "
                f"{allowed:.3g} is allowed with "
                f"quantization={quantization!r}. The file was not written."
            )
        largest = max(largest, float(difference))
        if wanted.ndim > 1 and wanted.shape[-1] > 1:
            agree = np.argmax(wanted, -1) == np.argmax(outputs[name], -1)
            same.append(agree.ravel())
    agreement = float(np.mean(np.concatenate(same))) if same else None
    return largest, agreement


def random_inputs(inputs, examples=8):
    """Random arrays by the names of inputs, for floats from a normal.

    Free sizes, except for the batch, become 32.
    """
    rng = np.random.default_rng(0)
    arrays = {}
    for one in inputs:
        shape = (examples, *(size or 32 for size in one.shape[1:]))
        arrays[one.name] = random_array(shape, one.dtype, rng)
    return arrays


def _shaken(array):
    if array.dtype != "float32":
        return array
    return array * np.float32(1 + ROUNDING)


def _outputs(source, inputs, batch_size):
    examples = len(next(iter(inputs.values())))
    batches = []
    for start in range(0, examples, batch_size):
        stop = start + batch_size
        batches.append(
            source.outputs_for(
                {name: array[start:stop] for name, array in inputs.items()}
            )
        )
    return {
        name: np.concatenate([batch[name] for batch in batches]).astype(
            "float64"
        )
        for name in source.outputs
    }
