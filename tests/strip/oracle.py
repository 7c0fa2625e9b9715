"""Which units of a model could go, found by trial alone.

Written without the channel graph: it changes the weights of one unit after
the other and looks at the outputs. It can only judge graphs in which a unit
that is connected to an output also shows there, see `Layers.generic`.
"""

import keras
import numpy as np

from tests.strip.random_graph import outputs
from tests.strip.random_graph import random_inputs

MAKERS = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)


def idle_units(model, rng):
    """Finds the units that change nothing, and inputs that never change.

    Args:
        model: a stripped model. Its weights are put back.
        rng: a numpy generator.

    Returns:
        A list of descriptions, and how many units were tried.
    """
    x = random_inputs(model, rng, batch=4)
    expected = outputs(model, x)
    found, tried = [], 0
    for layer in model.layers:
        if isinstance(layer, MAKERS):
            found += constant_inputs(model, layer, x)
            for unit in range(layer.kernel.shape[-1]):
                tried += 1
                if not shows(model, layer, unit, x, expected, rng):
                    found.append(f"unit {unit} of {layer.name}")
    return found, tried


def shows(model, layer, unit, x, expected, rng):
    """Whether the outputs change if a unit computes something else."""
    weights = layer.get_weights()
    if weights[0].shape[-1] == 1:
        # A layer keeps at least one unit.
        return True
    for _ in range(2):
        changed = [weight.copy() for weight in weights]
        for weight in changed:
            weight[..., unit] = rng.normal(size=weight[..., unit].shape)
        layer.set_weights(changed)
        got = outputs(model, x)
        layer.set_weights(weights)
        if any(np.any(a != b) for a, b in zip(got, expected)):
            return True
    return False


def constant_inputs(model, layer, x):
    """Inputs that the bias could stand in for, as they are always the same."""
    window = layer.kernel.shape[:-2]
    if any(size > 1 for size in window) and layer.padding != "valid":
        return []
    read = outputs(keras.Model(model.input, layer.input), x)[0]
    read = read.reshape(-1, read.shape[-1])
    same = np.all(read == read[:1], axis=0)
    if len(same) == 1:
        return []
    return [f"input {i} of {layer.name}" for i in np.flatnonzero(same)]
