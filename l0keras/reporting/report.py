import json

import numpy as np

from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.gates import gates_of
from l0keras.graph.trace import trace
from l0keras.reporting.accounting import architecture
from l0keras.reporting.accounting import macs_by_layer
from l0keras.reporting.report_plot import draw
from l0keras.stripping.plan import plan

_COLUMNS = ("units", "params", "macs", "bytes")
_GATES = tuple(kind.__name__ for kind in (HardConcreteGate, SharedGate))


class Report:
    """What stripping changed, see `report`.

    Attributes:
        architecture: the surviving units of the gated layers, a string such
            as "20-25-45-462"; empty where `before` has no gates.
        layers: a list with one dictionary for each layer that has weights:
            `name`, `type`, and for each of `units`, `params`, `macs` and
            `bytes` a list of the numbers before and after.
        total: the sums over all layers, a dictionary of such lists.
        kept: why something could not be cut: a list of dictionaries with
            `layer` and `reason`.
        removed: the names of layers that are gone as a whole, gates
            excepted: a list of strings.
        selected: where an index selection stands in front of a layer: a list
            of dictionaries with `layer`, `reads` and `of`.
    """

    def __init__(self, architecture, layers, total, kept, removed, selected):
        self.architecture = architecture
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
            lines.append("Nothing was cut: no channel is closed.")
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


def report(before, after):
    """Says what `strip` made smaller, what it could not, and why.

    Units are the channels that a layer makes. Parameters and bytes are those
    of all weights; for a model with gates that includes one `log_alpha` for
    each gate, while the stripped model has none. MACs are those of one
    example, see `count_macs`; -1 where shapes are not fixed.

    Args:
        before: the model that was stripped, unchanged since.
        after: what `strip(before)` returned, or that model trained further.

    Returns:
        A `Report`. Printing it shows one table.

    Raises:
        ValueError: a model has no graph, see `l0keras.strip`.

    Example:

    >>> print(l0keras.report(gated, l0keras.strip(gated)))
    """
    rows_before, rows_after = _rows(before), _rows(after)
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
    graph = plan(before)
    return Report(
        architecture=architecture(after, before) if gates_of(before) else "",
        layers=layers,
        total=total,
        kept=[
            {"layer": node.name, "reason": reason}
            for node in graph.nodes
            for reason in node.explanations
        ],
        removed=[
            name
            for name, row in rows_before.items()
            if name not in rows_after and row["type"] not in _GATES
        ],
        selected=[
            {"layer": node.name, "reads": len(take), "of": len(value.kept)}
            for node in graph.nodes
            for take, value in zip(node.takes, node.inputs)
            if take is not None
        ],
    )


def _countable(layers, key):
    return all(min(row[key]) >= 0 for row in layers)


def _rows(model):
    """Units, parameters, MACs and bytes by layer name."""
    try:
        macs = macs_by_layer(model)
    except ValueError:
        macs = {}
    rows = {}
    for node in trace(model, baked=False).nodes:
        weights = getattr(node.layer, "weights", None)
        if not weights or node.name in rows:
            continue
        sizes = [int(np.prod(weight.shape)) for weight in weights]
        rows[node.name] = {
            "type": type(node.layer).__name__,
            "units": _channels(node) if len(node.outputs) == 1 else 0,
            "params": sum(sizes),
            "macs": macs.get(node.name, -1),
            "bytes": sum(
                size * np.dtype(_stored(weight.dtype)).itemsize
                for size, weight in zip(sizes, weights)
            ),
        }
    return rows


def _stored(dtype):
    # numpy has no bfloat16.
    return "float16" if dtype == "bfloat16" else dtype


def _channels(node):
    first = getattr(node.layer, "data_format", None) == "channels_first"
    return node.output.shape[1 if first else -1] or 0


def _change(pair):
    before, after = ("?" if number < 0 else f"{number:,}" for number in pair)
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
