"""The time and memory that `strip` takes."""

import functools
import gc
import statistics

import keras
import numpy as np

import l0keras
from trainers.benchmarks import measure
from trainers.benchmarks.applications import architectures
from trainers.benchmarks.applications import check_names
from trainers.benchmarks.measure import interleave
from trainers.run import tables


def applications(names):
    """Builders of networks of `keras.applications`, with random weights.

    Args:
        names: a list of names of its functions.

    Returns:
        A dictionary from the names to functions without arguments.

    Raises:
        ValueError: an unknown name.
    """
    check_names("strip", names)
    known = architectures()
    return {
        name: functools.partial(known[name], weights=None) for name in names
    }


def benchmark_strip(builders, rounds):
    """Times `strip` against building the network, and measures its memory.

    Args:
        builders: a dictionary from names to functions without arguments that
            return a functional `keras.Model`, the most shallow first. Their
            modules have to be importable by name.
        rounds: the number of times that each is timed.

    Returns:
        A dictionary from the names to the number of `layers`, the medians
        `build_s` and `strip_s`, `ratio` (the median, over the rounds, of
        strip by build), `growth` (`strip_s` for each layer, divided by that of
        the first network: 1 where time is linear in depth), `check` (what
        the comparison with the gated model adds to strip without it, as a
        share of that, median over the rounds), and `peak`: by how much
        `strip` made the resident memory of a process of its own grow at most,
        and the gated model's weights, in multiples of their bytes.
    """
    summary = {}
    for name, build in builders.items():
        summary[name] = {
            **_ratios(build, rounds),
            "peak": measure.in_a_process(_strip_memory, build),
        }
    each = [row["strip_s"] / row["layers"] for row in summary.values()]
    for row, seconds in zip(summary.values(), each):
        row["growth"] = seconds / each[0]
    return summary


def _ratios(build, rounds):
    gated = _half_closed(build)
    seconds = interleave(
        {
            "build": build,
            "strip": functools.partial(l0keras.strip, gated),
            "unchecked": functools.partial(l0keras.strip, gated, check=False),
        },
        rounds,
    )
    built, strip, unchecked = seconds.values()
    ratios = [one / other for one, other in zip(strip, built)]
    checks = [one / other - 1.0 for one, other in zip(strip, unchecked)]
    return {
        "layers": len(gated.layers),
        "build_s": statistics.median(built),
        "strip_s": statistics.median(strip),
        "ratio": statistics.median(ratios),
        "check": statistics.median(checks),
    }


def benchmark_every_strip(builders, rounds):
    """Times `strip` of many networks against building them.

    Args:
        builders: a dictionary from names to functions without arguments that
            return a functional `keras.Model`.
        rounds: the number of times that each is timed.

    Returns:
        A dictionary from the names to the medians `build_s` and `strip_s` and
        `ratio`, the median over the rounds of strip by build; those of the
        network with the largest ratio are `largest`, with its `name`.
    """
    summary = {}
    for name, build in builders.items():
        summary[name] = _ratios(build, rounds)
        keras.backend.clear_session()
        gc.collect()
    name = max(summary, key=lambda name: summary[name]["ratio"])
    return {**summary, "largest": {**summary[name], "name": name}}


def _half_closed(build):
    model = l0keras.sparsify(build(), l0=1e-6, seed=0)
    for gate in l0keras.gates_of(model):
        shut = np.arange(gate.log_alpha.shape[0]) % 2
        gate.log_alpha.assign(np.where(shut, -4.0, 2.0))
    return model


def _strip_memory(build):
    model = _half_closed(build)
    # TensorFlow and Keras load and set up some things once.
    l0keras.strip(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]))
    held = measure.resident()
    measure.forget_peak()
    l0keras.strip(model)
    added = measure.peak() - held
    size = sum(keras.ops.convert_to_numpy(w).nbytes for w in model.weights)
    return 1 + added / size


def _number(key, form="{:.2f}"):
    return lambda row: form.format(row[key])


# Titles, and functions from a row to a cell.
_COLUMNS = (
    ("layers", _number("layers", "{}")),
    ("build s", _number("build_s")),
    ("strip s", _number("strip_s")),
    ("ratio", _number("ratio")),
    ("growth", _number("growth")),
    ("check", _number("check")),
    ("memory", _number("peak")),
)


def format_strip_table(summary):
    """Sets the results of both benchmarks as lines of text."""
    rows = [["", *(title for title, _ in _COLUMNS)]]
    rows += [
        [name, *tables.cells(_COLUMNS, row)] for name, row in summary.items()
    ]
    return "\n".join(
        [
            tables.text(rows),
            "ratio: strip to build; growth: the time of strip for each layer, "
            "compared with the first network;",
            "check: what the comparison with the gated network adds to strip, "
            "as a share of strip without it;",
            "memory: the weights of the gated network and the most that strip "
            "held beside them, in multiples of these weights.",
        ]
    )
