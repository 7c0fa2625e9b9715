import dataclasses

import keras

from l0keras.reporting.report import Report

_NAMES = {
    "params": "params",
    "macs": "MACs",
    "bytes": "bytes",
    "latency_us": "latency us",
}


class History(dict):
    """The logs of several trainings, one after another.

    A dictionary from names to lists with one entry for each epoch; `None`
    where an epoch has no such name. "stage" names the trainings.
    """

    def add(self, stage, epochs):
        """Appends a training.

        Args:
            stage: its name, a string.
            epochs: a list of dictionaries, the logs of each epoch.
        """
        for logs in epochs:
            before = len(self.get("stage", ()))
            row = {"stage": stage, **logs}
            for name in {**self, **row}:
                column = self.setdefault(name, [None] * before)
                column.append(row.get(name))


@dataclasses.dataclass(frozen=True)
class Compressed:
    """What `compress` makes.

    Attributes:
        model: the small model: of plain Keras layers, trained, and compiled
            as the dense model is.
        report: what was cut from the model with gates, see `l0keras.report`.
        history: the logs of all epochs, a dictionary from names to lists;
            "stage" says which training an epoch belongs to.
        table: a dictionary. "targets" is a list of dictionaries of `target`,
            `layer` (for targets about each layer), and the sizes `dense`,
            `asked`, `expected` (of the gates after their training) and
            `reached`. "dense" and "small" are dictionaries of "params",
            "macs", and of the float LiteRT file "bytes" and "latency_us" of
            one example on one thread (`None` where they are not known), and
            of the compiled metrics, "metrics". "data" is the argument whose
            data the metrics are of.
    """

    model: keras.Model
    report: Report
    history: dict
    table: dict

    def __str__(self):
        rows = [("", "dense", "small", "share")]
        dense, small = self.table["dense"], self.table["small"]
        for key, name in _NAMES.items():
            if dense[key] is not None:
                share = small[key] / dense[key]
                row = (_number(dense[key]), _number(small[key]))
                rows.append((name, *row, f"{share:.1%}"))
        scores = dense["metrics"] or {}
        for name, value in scores.items():
            other = small["metrics"].get(name)
            rows.append((name, _score(value), _score(other), ""))
        lines = _table(rows)
        if scores:
            lines.append(f"The last {len(scores)} on {self.table['data']}.")
        lines.append("")
        rows = [("asked", "at most", "expected", "reached", "share")]
        for row in self.table["targets"]:
            share = row["reached"] / row["dense"]
            sizes = (row[name] for name in ("asked", "expected", "reached"))
            about = f"{row['target'].of} of {row['layer'] or 'the model'}"
            if row["target"].where and not row["layer"]:
                about = f"{row['target'].of} of {row['target'].where!r}"
            if row["target"].quantization:
                about += f", {row['target'].quantization}"
            rows.append((about, *map(_number, sizes), f"{share:.1%}"))
        return "\n".join([*lines, *_table(rows)])

    __repr__ = __str__


def _number(value):
    if value is None:
        return ""
    return f"{value:,.1f}" if 0 < value < 100 else f"{value:,.0f}"


def _score(value):
    return "" if value is None else f"{value:.4g}"


def _table(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
