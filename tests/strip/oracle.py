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


def idle_units(model, rng, always=False):
    """Finds the units that change nothing.

    Args:
        model: a stripped model. Its weights are put back.
        rng: a numpy generator.
        always: whether to judge graphs with constant channels too.

    Returns:
        A list of descriptions, and how many units were tried.
    """
    x = random_inputs(model, rng, batch=32)
    expected = outputs(model, x)
    found, tried = [], 0
    constants = (constant(model, x, y) for y in inner_tensors(model))
    if not always and any(map(np.any, constants)):
        # Others may need it beside theirs, as in a sum; and it may hide what
        # it is multiplied with.
        return found, tried
    for layer in model.layers:
        if isinstance(layer, MAKERS):
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


def constant(model, x, tensor):
    """Which channels of a tensor inside are the same number everywhere."""
    array = outputs(keras.Model(model.input, tensor), x)[0]
    array = array.reshape(-1, array.shape[-1])
    return np.all(array == array[:1], axis=0)


def inner_tensors(model):
    for operation in model.operations:
        for call in operation._inbound_nodes:
            yield from call.outputs
