"""The time and memory that `strip` takes."""

import functools
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
    candidates, layers = {}, {}
    for name, build in builders.items():
        gated = _half_closed(build)
        layers[name] = len(gated.layers)
        candidates[name, "build"] = build
        candidates[name, "strip"] = functools.partial(l0keras.strip, gated)
        candidates[name, "unchecked"] = functools.partial(
            l0keras.strip, gated, check=False
        )
    seconds = interleave(candidates, rounds)
    summary = {}
    for name, build in builders.items():
        times = [seconds[name, step] for step in ("build", "strip")]
        medians = [statistics.median(values) for values in times]
        ratios = [strip / build for build, strip in zip(*times)]
        checks = [
            strip / unchecked - 1.0
            for strip, unchecked in zip(times[1], seconds[name, "unchecked"])
        ]
        summary[name] = {
            "layers": layers[name],
            "build_s": medians[0],
            "strip_s": medians[1],
            "ratio": statistics.median(ratios),
            "growth": medians[1] / layers[name],
            "check": statistics.median(checks),
            "peak": measure.in_a_process(_strip_memory, build),
        }
    first = next(iter(summary.values()))["growth"]
    for row in summary.values():
        row["growth"] /= first
    return summary


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


def format_strip_table(summary):
    """Sets the results of `benchmark_strip` as lines of text."""
    titles = ["build s", "strip s", "ratio", "growth", "check", "memory"]
    rows = [["", "layers", *titles]]
    for name, row in summary.items():
        rows.append(
            [
                name,
                f"{row['layers']}",
                f"{row['build_s']:.2f}",
                f"{row['strip_s']:.2f}",
                f"{row['ratio']:.2f}",
                f"{row['growth']:.2f}",
                f"{row['check']:.2f}",
                f"{row['peak']:.2f}",
            ]
        )
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
