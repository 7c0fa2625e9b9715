import json
import math

import keras
import numpy as np

from l0keras.gates import GateGenerator
from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.gates import gates_of
from l0keras.graph.costs import macs
from l0keras.graph.rules import BARRIER
from l0keras.graph.trace import trace
from l0keras.reporting.accounting import architecture_of
from l0keras.reporting.accounting import sources_of
from l0keras.reporting.report_plot import draw
from l0keras.stripping.plan import plan
from l0keras.stripping.record import explain
from l0keras.stripping.record import read_record

_COLUMNS = ("units", "params", "macs", "bytes")
_GATES = tuple(kind.__name__ for kind in (HardConcreteGate, SharedGate))


class Report:
    """What stripping changed, see `report`.

    Attributes:
        architecture: the surviving units of the gated layers, a string such
            as "20-25-45-462"; empty where `before` has no gates.
        closed: the numbers of closed test gates in `before`, and of all
            gates there.
        layers: a list with one dictionary for each layer that has weights or
            multiplies tensors: `name`, `type`, and for each of `units`,
            `params`, `macs` and `bytes` a list of the numbers before and
            after.
        total: the sums over all layers, a dictionary of such lists.
        kept: why something could not be cut: a list of dictionaries with
            `layer` and `reason`.
        removed: the names of layers that are gone as a whole, gates
            excepted: a list of strings.
        selected: where an index selection stands in front of a layer: a list
            of dictionaries with `layer`, `reads` and `of`.
    """

    def __init__(
        self, architecture, closed, layers, total, kept, removed, selected
    ):
        self.architecture = architecture
        self.closed = closed
        self.layers = layers
        self.total = total
        self.kept = kept
        self.removed = removed
        self.selected = selected

    def to_dict(self):
        """All attributes, a dictionary of plain Python types."""
        return dict(vars(self))

    def to_json(self, **kwargs):
        """All attributes as a JSON string.

        Args:
            **kwargs: for `json.dumps`, such as `indent`.
        """
        return json.dumps(self.to_dict(), **kwargs)

    def plot(self):
        """Draws the parameters and MACs of each layer before and after.

        Returns:
            A matplotlib figure; its `savefig(path)` writes a picture.
        """
        return draw(self.layers, self.total)

    def __str__(self):
        rows = [("layer", "type", *_COLUMNS)]
        for layer in self.layers:
            changes = (_change(layer[column]) for column in _COLUMNS)
            rows.append((layer["name"], layer["type"], *changes))
        changes = (_change(self.total[column]) for column in _COLUMNS[1:])
        rows.append(("all", "", "", *changes))
        lines = _table(rows)
        if self.architecture:
            lines.append(f"Architecture: {self.architecture}")
        if not self.removed and all(
            row["units"][0] == row["units"][1]
            for row in self.layers
            if row["type"] not in _GATES
        ):
            closed, gates = self.closed
            lines.append(
                f"Nothing was cut, though {closed} of {gates} gates are "
                "closed: what they close has to stay."
                if closed
                else "Nothing was cut: no channel is closed."
            )
        if self.removed:
            lines.append(f"Removed: {', '.join(self.removed)}")
        for item in self.selected:
            lines.append(
                f"Selected: '{item['layer']}' reads {item['reads']} of "
                f"{item['of']} channels"
            )
        for item in self.kept:
            lines.append(f"Kept: '{item['layer']}' {item['reason']}")
        return "\n".join(lines)

    __repr__ = __str__


def report(before: keras.Model, after: keras.Model) -> Report:
    """Lists the cuts of `strip`, the layers that stayed whole, and why.

    Units are the channels that a layer makes. Parameters and bytes are those
    of all weights; for a model with gates that includes one `log_alpha` for
    each gate, while the stripped model has none. What makes the gates of a
    whole model, a `GateGenerator` or a `GateBudget`, is no part of the network
    and left out, with all that it learns. MACs are those of one example, see
    `count_macs`; -1 ("unknown" in the table) where shapes are not fixed, or a
    layer with matrices of weights is not known.

    `strip` leaves a record on the model that it returns, with the reasons of
    everything that had to stay. A model that was loaded from a file has none,
    as files hold plain Keras: then `before` is planned again, with the
    `min_units` or `round_to` that gives `after` its widths.

    Args:
        before: the model that was stripped, unchanged since.
        after: the result of `strip(before)`, also after further training or
            from a file.

    Returns:
        A `Report`. Printing it shows one table.

    Raises:
        ValueError: a model has no graph, see `l0keras.strip`; `after` cannot
            have come from `before`, for example where the two are swapped.

    Example:

    >>> print(l0keras.report(gated, l0keras.strip(gated)))
    """
    graphs = [trace(model, baked=False) for model in (before, after)]
    nodes_before, nodes_after = (graph.nodes for graph in graphs)
    rows_before, rows_after = _rows(nodes_before), _rows(nodes_after)
    _check_related(*graphs, rows_before, rows_after)
    nothing = dict.fromkeys(_COLUMNS, 0)
    layers = []
    for name in {**rows_before, **rows_after}:
        old = rows_before.get(name, nothing)
        new = rows_after.get(name, nothing)
        layers.append(
            {
                "name": name,
                "type": new.get("type") or old["type"],
                **{key: [old[key], new[key]] for key in _COLUMNS},
            }
        )
    total = {
        key: [
            sum(row[key][side] for row in layers)
            if _countable(layers, key)
            else -1
            for side in (0, 1)
        ]
        for key in _COLUMNS[1:]
    }
    sources = sources_of(nodes_before)
    units = ""
    if gates_of(before):
        units = architecture_of(sources, sources_of(nodes_after))
    record = read_record(after) or _reasons(before, rows_after)
    return Report(
        architecture=units,
        closed=_closed(before),
        layers=layers,
        total=total,
        kept=record["kept"],
        removed=[
            name
            for name, row in rows_before.items()
            if name not in rows_after and row["type"] not in _GATES
        ],
        selected=record["selected"],
    )


def _closed(model):
    gates = [gate.test_gates() for gate in gates_of(model)]
    return [
        sum(int(np.sum(values == 0)) for values in gates),
        sum(values.size for values in gates),
    ]


def _check_related(before, after, rows_before, rows_after):
    """Refuses two models unless `after` may be `before` stripped."""
    reasons = _differences(before, after, rows_before, rows_after)
    if not reasons:
        return
    hint = ""
    if not _differences(after, before, rows_after, rows_before):
        hint = " The two models are swapped."
    raise ValueError(
        "Argument `after` must be the result of `strip(before)`. Received: "
        f"model '{after.model.name}' with {'; '.join(reasons[:3])}.{hint}"
    )


def _differences(before, after, rows_before, rows_after):
    """What a model has that cannot have come from another by stripping."""
    reasons = []
    if gates_of(after.model) and not gates_of(before.model):
        reasons.append("gates, which `before` has not")
    inputs = [
        [value.shape for value in keras.tree.flatten(graph.inputs)]
        for graph in (before, after)
    ]
    if inputs[0] != inputs[1]:
        reasons.append(f"inputs of shapes {inputs[1]} instead of {inputs[0]}")
    for name, row in rows_after.items():
        known = rows_before.get(name)
        if known is None:
            reasons.append(f"layer '{name}', which is not in `before`")
        elif row["units"] > known["units"]:
            reasons.append(
                f"layer '{name}' with {row['units']} units, of which `before` "
                f"has {known['units']}"
            )
    return reasons


def _reasons(before, rows_after):
    """The record that `strip` would leave, for a model without one."""
    graph = plan(before)
    widths = _widths(graph, rows_after)
    if _agree(widths):
        return explain(graph)
    for sizes in _sizes_for(widths):
        asked = plan(before, **sizes)
        if _agree(_widths(asked, rows_after)):
            return explain(asked)
    record = explain(graph)
    for name, (fewest, units, _) in widths.items():
        if fewest < units:
            record["kept"].append(
                {
                    "layer": name,
                    "reason": f"keeps {units} of its units where {fewest} "
                    "would do: it was stripped with `min_units` and "
                    "`round_to`, or changed since",
                }
            )
    return record


def _widths(graph, rows):
    """The units of layers in a plan, in `rows`, and in the planned model."""
    return {
        node.name: (
            len(node.output.kept),
            rows[node.name]["units"],
            node.output.size,
        )
        for node in graph.nodes
        if node.name in rows
        and node.rule is not BARRIER
        and node.rule.creates(node)
    }


def _agree(widths):
    return all(planned == units for planned, units, _ in widths.values())


def _sizes_for(widths):
    """The arguments of `strip` that may have made layers wider."""
    yield {
        "min_units": max(
            units for planned, units, _ in widths.values() if planned != units
        )
    }
    # A layer that has fewer units in all is not rounded up.
    step = math.gcd(
        *(units for _, units, size in widths.values() if units < size)
    )
    if step > 1:
        yield {"round_to": step}


def _countable(layers, key):
    return all(min(row[key]) >= 0 for row in layers)


def _rows(nodes):
    """Units, parameters, MACs and bytes by layer name."""
    rows = {}
    for node in nodes:
        if isinstance(node.layer, GateGenerator):
            continue
        weights = getattr(node.layer, "weights", ())
        count = _macs(node)
        if not weights and count <= 0:
            continue
        if node.name in rows:
            known = rows[node.name]["macs"]
            unknown = min(known, count) < 0
            rows[node.name]["macs"] = -1 if unknown else known + count
            continue
        sizes = [int(np.prod(weight.shape)) for weight in weights]
        rows[node.name] = {
            "type": type(node.layer).__name__,
            "units": _channels(node) if node.outputs else 0,
            "params": sum(sizes),
            "macs": count,
            "bytes": sum(
                size * np.dtype(_stored(weight.dtype)).itemsize
                for size, weight in zip(sizes, weights)
            ),
        }
    return rows


def _macs(node):
    """The multiply-accumulates of one call, -1 where they are unknown."""
    try:
        return macs(node)
    except ValueError:
        return -1


def _stored(dtype):
    # numpy has no bfloat16.
    return "float16" if dtype == "bfloat16" else dtype


def _channels(node):
    first = getattr(node.layer, "data_format", None) == "channels_first"
    return node.output.shape[1 if first else -1] or 0


def _change(pair):
    before, after = (
        "unknown" if number < 0 else f"{number:,}" for number in pair
    )
    return before if before == after else f"{before} -> {after}"


def _table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]
