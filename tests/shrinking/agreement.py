"""Whether a smaller model trains on as the larger one does."""

import numpy as np
from keras import ops

from l0keras.gates import gates_of
from l0keras.shrinking.close_gates import close
from l0keras.shrinking.optimizer_state import _all_optimizers
from l0keras.shrinking.optimizer_state import _others
from l0keras.shrinking.optimizer_state import _slots


def close_some(model, rng, share=0.4):
    """Closes random gates for good, but not all of a layer."""
    gates, masks = gates_of(model), []
    for gate in gates:
        mask = rng.random(gate.prob_open().shape) < share
        mask.flat[rng.integers(mask.size)] = False
        masks.append(mask)
    close(model, gates, masks)


def numbers(variable, index=None):
    array = ops.convert_to_numpy(variable)
    return array if index is None else array.reshape(-1)[index]


def pairs(model, smaller, origins):
    """What has to agree: names, and arrays of the larger and the smaller."""
    for variable in smaller.variables:
        original, index = origins[id(variable)]
        yield variable.path, numbers(original, index), numbers(variable)
    optimizers = zip(
        _all_optimizers(model.optimizer),
        _all_optimizers(smaller.optimizer),
        strict=True,
    )
    for old, new in optimizers:
        places = {id(v): i for i, v in enumerate(old._trainable_variables)}
        for name, slots in _slots(new).items():
            for variable, slot in zip(new._trainable_variables, slots):
                original, index = origins[id(variable)]
                source = _slots(old)[name][places[id(original)]]
                yield (
                    f"{name} of {variable.path}",
                    numbers(source, index),
                    numbers(slot),
                )
        others = zip(
            _others(old, _slots(old)), _others(new, _slots(new)), strict=True
        )
        for one, other in others:
            if one.name.endswith("_zeros"):
                # Groups of which nothing is left count as 0.
                continue
            yield one.path, numbers(one), numbers(other)


def check_agreement(model, smaller, origins, tolerance=1e-5):
    for name, expected, got in pairs(model, smaller, origins):
        expected, got = expected.astype("float64"), got.astype("float64")
        scale = max(1.0, np.max(np.abs(expected), initial=0.0))
        np.testing.assert_allclose(
            got, expected, rtol=0, atol=tolerance * scale, err_msg=name
        )
