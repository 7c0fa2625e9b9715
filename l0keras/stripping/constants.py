"""Weights that rules may change, and the channels that are constant."""

import keras
import numpy as np

from l0keras.graph.graph import unknown
from l0keras.graph.rules import BARRIER


def load_params(graph):
    """Copies to the host the weights that rules may read and change.

    Raises:
        ValueError: a weight is not finite.
    """
    for operation in {id(n): n.operation for n in graph.nodes}.values():
        if operation.params or operation.nodes[0].rule is BARRIER:
            continue
        operation.load_params()
        for name, array in operation.params.items():
            if not np.all(np.isfinite(array)):
                raise ValueError(
                    "Argument `model` must have finite weights. Received: "
                    f"NaN or infinity in '{name}' of layer "
                    f"'{operation.name}'"
                )


def propagate_constants(graph):
    """Forwards: finds the channels that are one number for all inputs."""
    for value in keras.tree.flatten(graph.inputs):
        value.constants = unknown(value.size)
    for node in graph.nodes:
        for value in node.outputs:
            value.constants = unknown(value.size)
        if node.rule is not BARRIER:
            constants = node.rule.constants(node)
            for value, part in zip(node.outputs, node.rule.parts(node)):
                value.constants = constants[part]
