"""The dense model beside the small one."""

import os

from l0keras.cli.scores import score
from l0keras.cli.scores import warn_of_chance
from l0keras.export import sample_shapes
from l0keras.graph.count_macs import count_macs
from l0keras.targets import sizes_of
from l0keras.targets.latency.timing import timed

_NAMES = {
    "params": "parameters",
    "macs": "MACs",
    "units": "units",
    "bytes": "bytes of the file",
    "latency": "us for one example",
}


class Comparison:
    """Sizes and scores of a model, and later of the small one.

    Args:
        model: the dense `keras.Model`.
        path: its .tflite file, or `None`.
        data: the `Data` to measure on.
    """

    def __init__(self, model, path, data):
        self._model, self._path, self._data = model, path, data
        self._dense = self._measured(model, path)
        self._small, self._asked = None, []
        warn_of_chance(self._dense["score"], data.task)

    @property
    def line(self):
        """What is known of the dense model, one line."""
        parts = []
        for key, value in self._dense.items():
            if key in ("params", "macs", "bytes"):
                parts.append(f"{_text(value)} {_NAMES[key]}")
            elif key == "score":
                parts.append(f"{value.name} {value}")
        return f"Dense model: {', '.join(parts)}"

    def compare(self, small, path, targets):
        """Measures the small model too.

        Args:
            small: the small `keras.Model`.
            path: its .tflite file, or `None`.
            targets: the `Target`s that were asked for.
        """
        self._small = self._measured(small, path)
        if path is not None:
            # In turns, so that other work slows both alike.
            shapes = sample_shapes(small, self._data.train)
            times = timed([self._path, path], sample_shape=shapes)
            self._dense["latency"], self._small["latency"] = times
        for target in targets:
            if target.of in self._dense:
                sizes = self._dense[target.of], self._small[target.of]
            else:
                models = [self._model, small]
                sizes = sizes_of(models, target, self._data.train)
            self._asked.append((target, *sizes))

    def _measured(self, model, path):
        data = self._data
        found = {
            "score": score(model, data.validation, data.task, data.classes)
        }
        if path is not None:
            found["file_score"] = score(
                path, data.validation, data.task, data.classes
            )
        found["params"] = model.count_params()
        try:
            found["macs"] = count_macs(model)
        except ValueError:
            # Shapes are not fixed, or a layer is not known.
            pass
        if path is not None:
            found["bytes"] = os.path.getsize(path)
        return found

    def to_dict(self):
        """All numbers, a dictionary of plain Python types."""
        return {
            "dense": _plain(self._dense),
            "small": _plain(self._small),
            "asked": [
                {
                    "of": target.of,
                    "at_most": target.limit(dense),
                    "dense": dense,
                    "reached": small,
                }
                for target, dense, small in self._asked
            ],
            "examples": self._data.num_validation,
        }

    def __str__(self):
        rows = [("", "dense", "small", "")]
        for key, dense in self._dense.items():
            small = self._small[key]
            share = ""
            name = _NAMES.get(key)
            if name is None:
                name = dense.name + " of the file" * (key == "file_score")
            else:
                # A model of embeddings alone multiplies nothing.
                share = f"{100 * small / dense:.1f} %" if dense else ""
            rows.append((name, _text(dense), _text(small), share))
        lines = _table(rows)
        for target, dense, small in self._asked:
            lines.append(_sentence(target, dense, small))
        count = self._data.num_validation
        lines.append(f"Measured on {count:,} examples.")
        return "\n".join(lines)


def _sentence(target, dense, small):
    limit = target.limit(dense)
    asked = f"Asked for at most {_text(limit)} {_NAMES[target.of]}"
    if target.share is not None:
        asked += f" ({100 * target.share:g} %)"
    reached = f"reached {_text(small)}"
    # Two runs of a file take times that differ by some percent.
    over = small > limit * (1.05 if target.of == "latency" else 1)
    return f"{asked}, {reached}." + " That is more than asked for." * over


def _plain(found):
    return {
        key: value if isinstance(value, (int, float)) else vars(value)
        for key, value in found.items()
    }


def _text(value):
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    return [rule, lines[0], rule, *lines[1:], rule]
