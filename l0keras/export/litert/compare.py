"""Whether a LiteRT file computes what its model does."""

import numpy as np

from l0keras.export.litert.quantization import HALF_PRECISION_TOLERANCE
from l0keras.export.litert.quantization import QUANTIZATIONS

# LiteRT sums in another order, and a hundred layers may make much of that. So
# the file may also stray by as much as the model itself does, times a factor,
# when its inputs change by a few roundings.
ROUNDING = 1e-6
ROUNDING_FACTOR = 10


def compare(outputs, source, quantization, inputs, batch_size):
    """Compares the outputs of a file with those of the model.

    Args:
        outputs: a dictionary of arrays by the names of the outputs.
        source: the `Source` that the file was converted from.
        quantization: how, a key of `QUANTIZATIONS`.
        inputs: a dictionary of arrays by the names of the inputs.
        batch_size: how many examples the model takes at once.

    Returns:
        A pair of floats: the largest absolute difference, and the share of
        argmaxes along the last axis that agree, or `None` where no output has
        several classes there.

    Raises:
        RuntimeError: an output strays too far, or is of another shape.
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
                f"The LiteRT file of model '{source.name}' gives output "
                f"'{name}' of shape {outputs[name].shape}, the model gives "
                f"{wanted.shape}; it was not written."
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
                f"model by {difference:.3g} in output '{name}', where "
                f"{allowed:.3g} is allowed with "
                f"quantization={quantization!r}; it was not written."
            )
        largest = max(largest, float(difference))
        if wanted.ndim > 1 and wanted.shape[-1] > 1:
            agree = np.argmax(wanted, -1) == np.argmax(outputs[name], -1)
            same.append(agree.ravel())
    agreement = float(np.mean(np.concatenate(same))) if same else None
    return largest, agreement


def random_inputs(inputs, examples=8):
    """Arrays by the names of inputs, normally distributed if floats.

    Unknown sizes, but for the batch, are those of a short sequence.
    """
    rng = np.random.default_rng(0)
    arrays = {}
    for one in inputs:
        shape = (examples, *(size or 32 for size in one.shape[1:]))
        if "float" in one.dtype:
            array = rng.normal(size=shape)
        else:
            array = rng.integers(0, 2, shape)
        arrays[one.name] = array.astype(one.dtype)
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
