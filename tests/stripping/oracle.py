"""Which units of a model could go, found by trial alone.

Written without the channel graph: it changes the weights of one unit after
the other and looks at the outputs. It can only judge graphs in which a unit
that is connected to an output also shows there, see `Layers.generic`.
"""

import keras
import numpy as np

from tests.stripping.random_graph import outputs
from tests.stripping.random_graph import random_inputs

MAKERS = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)


def idle_units(model, rng, constants=False):
    """Finds the units that change nothing.

    A unit may have to be there although it does nothing, because a channel
    of a merge has to come from all of its inputs. So layers are left out of
    which something that is constant is made, other than by a further layer.

    Args:
        model: a stripped model. Its weights are put back.
        rng: a numpy generator.
        constants: whether to judge those layers too, and to count units that
            are constant.

    Returns:
        A list of descriptions, and how many units were tried.
    """
    x = random_inputs(model, rng, batch=32)
    expected = outputs(model, x)
    constant = constant_channels(model, x)
    found, tried = [], 0
    for layer in model.layers:
        # A layer keeps at least one unit.
        if not isinstance(layer, MAKERS) or layer.kernel.shape[-1] == 1:
            continue
        known = [constant.get(op.name, False) for op in passes(layer)]
        if not constants and any(map(np.any, known)):
            continue
        for unit in range(layer.kernel.shape[-1]):
            tried += 1
            if known[0][unit] or not shows(
                model, layer, unit, x, expected, rng
            ):
                found.append(f"unit {unit} of {layer.name}")
    return found, tried


def passes(layer):
    """A layer and all operations that pass its units on."""
    found = [layer]
    for operation in found:
        for call in operation._outbound_nodes:
            further = call.operation
            if not isinstance(further, MAKERS) and further not in found:
                found.append(further)
    return found


def constant_channels(model, x):
    """Which channels are the same number everywhere, by operation."""
    operations = [op for op in model.operations if op._inbound_nodes]
    tensors = [op.output for op in operations]
    arrays = outputs(keras.Model(model.input, tensors), x)
    found = {}
    for operation, array in zip(operations, arrays, strict=True):
        array = array.reshape(-1, array.shape[-1])
        found[operation.name] = np.all(array == array[:1], axis=0)
    return found


def shows(model, layer, unit, x, expected, rng):
    """Whether the outputs change if a unit computes something else."""
    weights = layer.get_weights()
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
