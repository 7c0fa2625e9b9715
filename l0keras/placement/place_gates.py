import math
from collections.abc import Sequence

import keras

from l0keras.gates import HardConcreteGate
from l0keras.gates import check_gate_arguments
from l0keras.graph.builder import Builder
from l0keras.graph.trace import trace
from l0keras.placement.generated_gates import GeneratedGates
from l0keras.placement.generated_gates import check_arguments


def place_gates(
    model: keras.Model,
    behind: Sequence[str],
    l0: float = 0.0,
    dependence: str | None = None,
    cost: str = "params",
    penalty: str = "joint",
    inputs: int | None = None,
    droprate_init: float = 1.0 / (1.0 + math.exp(3.0)),
    sample_per: str = "example",
    seed: int | None = None,
) -> keras.Model:
    """Puts gates on a copy of a model behind the layers of given names.

    `l0keras.sparsify` finds all places where channels can be cut; this
    function takes the places from a paper. One generator makes `log_alpha`
    for all gates, and they are charged together.

    Args:
        model: a built `keras.Model`; only read.
        behind: the names of layers, in the order of the network. Whatever
            reads their outputs reads them gated, along the last axis.
        l0: the price of one unit of `cost`, at least 0. The lambda of Dep-L0
            is not divided by the number of training examples.
        dependence: `"forward"` or `"backward"` for gates that depend on each
            other (Dep-L0), `None` for gates that do not (its baseline).
        cost: `"params"` for weights, `"macs"` for multiply-accumulates.
        penalty: `"joint"` or `"reference"`, as in `l0keras.sparsify`.
        inputs, droprate_init: as in `l0keras.GateGenerator`.
        sample_per: as in `l0keras.HardConcreteGate`.
        seed: an integer, from which each gate gets one of its own, or `None`.

    Returns:
        A functional model, not compiled. The gate behind a layer is called
        `{name}_gate`, the generator `gate_generator`.

    Raises:
        ValueError: an argument out of its range, or a name of no layer.

    Example:

    >>> model = l0keras.models.vgg16()
    >>> gated = l0keras.place_gates(model, ["block1_norm1", "block1_norm2"])
    """
    check_arguments(dependence, cost, penalty)
    if penalty == "separate":
        raise ValueError(
            "Argument `penalty` must be 'joint' or 'reference' for gates that "
            "a paper places. Received: penalty='separate'"
        )
    graph = trace(model, baked=False)
    sizes = {node.name: node.outputs[0].shape[-1] for node in graph.nodes}
    missing = [name for name in behind if name not in sizes]
    if missing or not behind:
        raise ValueError(
            "Argument `behind` must name layers of the model. "
            f"Received: {', '.join(missing) or 'none'}. "
            f"These are there: {', '.join(sizes)}"
        )
    arguments = {
        "l0": l0,
        "droprate_init": droprate_init,
        "sample_per": sample_per,
        "seed": seed,
    }
    check_gate_arguments(**arguments)
    generated = GeneratedGates(
        {f"{name}_gate": sizes[name] for name in behind},
        arguments,
        dependence,
        cost,
        penalty,
        inputs,
    )
    copy = _Placer(graph, list(behind), arguments, generated).model()
    generated.charge(copy)
    return copy


class _Placer(Builder):
    """Builds the copy."""

    def __init__(self, graph, behind, arguments, generated):
        super().__init__(graph)
        self._behind = behind
        self._arguments = arguments
        self._generated = generated
        self.unique(generated.generator.name)
        self.own(generated.generator)

    def place(self, value, tensor):
        name = value.producer.name if value.producer else None
        if name in self._behind:
            tensor = self._gate(name, tensor)
        super().place(value, tensor)

    def _gate(self, behind, tensor):
        arguments = {**self._arguments, "l0": 0.0}
        if arguments["seed"] is not None:
            arguments["seed"] += 1 + self._behind.index(behind)
        gate = HardConcreteGate(
            dtype=tensor.dtype, name=f"{behind}_gate", **arguments
        )
        anchor = self.tensors[id(keras.tree.flatten(self.graph.inputs)[0])]
        log_alpha = self._generated.log_alpha(gate.name, anchor)
        return self.own(gate)(tensor, log_alpha=log_alpha)
