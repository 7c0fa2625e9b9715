"""What a cut saves in training, and what it costs."""

import keras
import numpy as np

from l0keras.graph.count_macs import macs_by_layer
from l0keras.shrinking.plan import all_weights
from l0keras.shrinking.plan import plan

# Seconds of a usual core, measured at networks from a perceptron to a
# ResNet-20: for any step, for a multiply-accumulate of one (it takes part in
# the forward pass and twice in the backward pass); for any cut, and for each
# layer with weights that is traced anew.
_STEP, _MULTIPLY_ACCUMULATE = 2e-3, 5e-11
_CUT, _LAYER = 1.5, 0.2
_IN_FREE_SHAPES = 100


def saved_work(model, min_units=1, round_to=None):
    """The share of the work of a training step that `shrink` would save.

    Work is counted in multiply-accumulates, and in weights where these are not
    known. A cut leaves as much of a layer's as of its largest weight.

    Args:
        model: a built `keras.Model`.
        min_units, round_to: as in `shrink`.

    Returns:
        A number in [0, 1].
    """
    graph, parts = plan(model, min_units, round_to)
    left = dict.fromkeys((one.name for one in graph.before), 0.0)
    for node in graph.nodes:
        if node.alive:
            part = parts.get(id(node.operation))
            left[node.operation.name] = _left(node.operation, part)
    try:
        work = macs_by_layer(model)
    except ValueError:
        work = {one.name: sum(_sizes(one)) for one in graph.before}
    total = sum(work.values())
    # What has another name in the plan is taken to stay.
    kept = sum(count * left.get(name, 1.0) for name, count in work.items())
    return 1 - kept / total if total else 0.0


def steps_of_a_cut(model, batch_size):
    """How many training steps take as long as a cut.

    That is a rough estimate from counts, and the same on all machines.

    Args:
        model: a built `keras.Model`.
        batch_size: the number of examples in a step.

    Returns:
        A float.
    """
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if layer.weights and not isinstance(layer, keras.Model)
    ]
    try:
        macs = sum(macs_by_layer(model).values())
    except ValueError:
        macs = _IN_FREE_SHAPES * model.count_params()
    step = _STEP + 3 * macs * batch_size * _MULTIPLY_ACCUMULATE
    return (_CUT + _LAYER * len(layers)) / step


def _left(operation, part):
    """The share of the largest weight of an operation that a plan leaves."""
    sizes = _sizes(operation)
    if part is None or not sizes:
        return 1.0
    largest = int(np.argmax(sizes))
    index = part.indices.get(largest)
    return 1.0 if index is None else index.size / sizes[largest]


def _sizes(operation):
    return [int(np.prod(weight.shape)) for weight in all_weights(operation)]
