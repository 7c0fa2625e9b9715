import importlib.util
import logging
import os

import keras
import numpy as np
from keras import ops

from l0keras.gates import GateBudget
from l0keras.graph.count_macs import count_macs
from l0keras.targets import Yardstick
from l0keras.targets.files import guarded_folder

_log = logging.getLogger(__name__)
# Examples by which the ranges of integer files are chosen.
_EXAMPLES = 300


def examples_for(targets, data):
    """Some training inputs, `None` where no target needs them.

    Args:
        targets: a list of `Target`.
        data: the `TrainingData`, for ranges of integer files and for the
            sizes of examples that are timed.
    """
    if any(one.needs_ranges or one.of == "latency" for one in targets):
        return _examples(data)
    return None


class Sizes:
    """What targets are about, of a dense model and of what comes of it.

    Args:
        targets: a list of `Target`.
        dense: the model without gates.
        gated: the model with gates, which knows how long `dense` took.
        examples: see `examples_for`.

    Attributes:
        yardsticks: a `Yardstick` for each target, by `Target.about`.
    """

    def __init__(self, targets, dense, gated, examples):
        budget = _budget_of(gated)
        known = {
            one.about: size
            for one, size in zip(budget.targets, budget.full_costs())
            if one.of == "latency"
        }
        # One row for each target, or for each of its layers: the target as
        # it was given and as budgets have it, the layer and its size.
        self._rows, self.yardsticks = [], {}
        for target in targets:
            size = known.get(target.about)
            yardstick = Yardstick(target, dense, size, examples)
            self.yardsticks[target.about] = yardstick
            found = yardstick.size
            layers = found if target.each else [None]
            for layer, (one, size) in zip(layers, target.absolute(found)):
                self._rows.append((target, one, layer, size))

    def expected(self, gated):
        """The expected sizes of a model with gates.

        Returns:
            A list of floats; `None` for layers that no gate makes smaller.
        """
        budget = _budget_of(gated)
        sizes = ops.convert_to_numpy(budget.expected()).tolist()
        # Not of layers that no gate makes smaller.
        known = {one.about: n for one, n in zip(budget.targets, sizes)}
        return [known.get(one.about) for _, one, _, _ in self._rows]

    def reached(self, small):
        """The sizes of the small model, a list of numbers."""
        found = {
            about: yardstick.size_of(small)
            for about, yardstick in self.yardsticks.items()
        }
        sizes = []
        for target, _, layer, _ in self._rows:
            size = found[target.about]
            # A layer that is gone has none.
            sizes.append(size.get(layer, 0) if target.each else size)
        return sizes

    def text(self, sizes):
        """Sizes as shares of the dense model's, in a few words."""
        shares = [
            f"{size / dense:.1%} {target.of}{f' of {layer}' if layer else ''}"
            for size, (target, _, layer, dense) in zip(sizes, self._rows)
            if size is not None
        ]
        more = f" and {len(shares) - 3} more" if len(shares) > 3 else ""
        return ", ".join(shares[:3]) + more

    def expected_now(self, gated):
        """The expected sizes of a model with gates, in a few words."""
        return self.text(self.expected(gated))

    def rows(self, expected, reached):
        """What was asked, expected and reached.

        Returns:
            A list of dictionaries of `target`, `layer`, `dense`, `asked`,
            `expected` and `reached`.
        """
        return [
            {
                "target": target,
                "layer": layer,
                "dense": dense,
                "asked": limit.at_most,
                "expected": one,
                "reached": other,
            }
            for (target, limit, layer, dense), one, other in zip(
                self._rows, expected, reached
            )
        ]


def compared(dense, small):
    """What two models cost.

    Returns:
        A list of two dictionaries from "params", "macs", "bytes" and
        "latency_us" to numbers, or `None` where it is not known: shapes are
        not fixed, or LiteRT is not there.
    """
    costs = []
    for model in (dense, small):
        try:
            macs = count_macs(model)
        except ValueError as error:
            _log.info("No multiply-accumulates: %s", error)
            macs = None
        costs.append({"params": model.count_params(), "macs": macs})
    files = _files([dense, small])
    for cost, (size, latency) in zip(costs, files):
        cost["bytes"], cost["latency_us"] = size, latency
    return costs


def _files(models):
    """Bytes and microseconds of the models' float files."""
    nothing = [(None, None)] * len(models)
    if keras.backend.backend() != "tensorflow":
        return nothing
    if importlib.util.find_spec("ai_edge_litert") is None:
        return nothing
    from l0keras.export import export_tflite
    from l0keras.export import measure_latency

    with guarded_folder("compress-") as folder:
        paths = [
            os.path.join(folder, f"{i}.tflite") for i in range(len(models))
        ]
        try:
            files = [
                export_tflite(model, path, check=False)
                for model, path in zip(models, paths)
            ]
        except (RuntimeError, ValueError) as error:
            _log.info("No LiteRT files: %s", error)
            return nothing
        latencies = [None] * len(models)
        try:
            latencies = measure_latency(paths, max_seconds=0.5)
        except (RuntimeError, ValueError) as error:
            # Sizes are free, as they are where there is no number of
            # multiply-accumulates.
            _log.info("No latencies: %s", error)
        return [
            (file.bytes, latency) for file, latency in zip(files, latencies)
        ]


def _examples(data):
    """Some training examples, as `export_tflite` takes them."""
    batches, rows = [], 0
    for (x,) in data.batches():
        batches.append(x)
        rows += len(keras.tree.flatten(x)[0])
        if rows >= _EXAMPLES:
            break
    return keras.tree.map_structure(
        lambda *parts: np.concatenate(parts)[:_EXAMPLES], *batches
    )


def _budget_of(gated):
    (budget,) = [
        layer
        for layer in gated._flatten_layers()
        if isinstance(layer, GateBudget)
    ]
    return budget
