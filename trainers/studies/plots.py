"""The pictures of the studies."""

import itertools

from trainers.run.plots import COLORS
from trainers.run.plots import EXPECTED
from trainers.run.plots import INK
from trainers.run.plots import MUTED
from trainers.run.plots import OPEN
from trainers.run.plots import clean

# By what a variant is made of, and by what was done to it.
FILE_COLORS = {"dense": MUTED, "pruned": EXPECTED, "l0": OPEN}
FILE_MARKERS = {
    "": "o",
    "sparse encoding": "^",
    "int8": "s",
    "int8, fine-tuned": "D",
    "clustered": "P",
    "clustered, int8, fine-tuned": "X",
}
# What is shown, in which unit, and where there are ticks in a decade.
PANELS = (
    ("bytes", 1e-3, "size of the file, kB", (1, 2, 5)),
    ("latency_us", 1, "latency of one example on one thread, us", (1, 2, 3, 5)),
)
# Color, marker and what the method is called.
METHOD_STYLES = {
    "dense": (MUTED, "*", "dense"),
    "independent": (INK, "o", "independent gates"),
    "forward": (OPEN, "s", "Dep-L0, forward"),
    "backward": (EXPECTED, "D", "Dep-L0, backward"),
}
GROUP_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def files(results):
    """Draws errors against sizes and against latencies.

    Args:
        results: a list of dicts with `name`, `test_error`, `bytes` and
            `latency_us`.

    Returns:
        A matplotlib figure.
    """
    # Not pyplot, whose figures live until somebody closes them.
    from matplotlib import ticker
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (key, unit, label, ticks) in zip(panels, PANELS):
        for row in results:
            name = row["name"]
            origin, _, form = name.partition(", ")
            axes.plot(
                unit * row[key],
                row["test_error"],
                FILE_MARKERS[form],
                color=FILE_COLORS[origin],
                markersize=10,
                markeredgecolor="white",
                # Neighbours show through.
                alpha=0.85,
                label=name if key == "bytes" else None,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=ticks))
        axes.xaxis.set_major_formatter(
            ticker.FuncFormatter(lambda x, _: f"{x:,.0f}")
        )
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.margins(x=0.12)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(label, color=INK)
        clean(axes)
    panels[0].set_ylabel("test error, %", color=INK)
    figure.legend(
        loc="outside right center",
        frameon=False,
        fontsize=9,
        title="down and to the left is better",
        title_fontsize=9,
    )
    return figure


def prices(points):
    """Draws test errors against multiply-accumulates, a panel each network.

    Args:
        points: what `sweep.summary` returns: each is a mean over seeds, with
            the range of test errors as a bar.

    Returns:
        A matplotlib figure.
    """
    # Not pyplot, whose figures live until somebody closes them.
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(point["network"] for point in points))
    figure = Figure(figsize=(5.2 * len(networks) + 1, 4.2), layout="tight")
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, network in zip(panels, networks):
        for method, (color, marker, label) in METHOD_STYLES.items():
            own = [
                point
                for point in points
                if (point["network"], point["method"]) == (network, method)
            ]
            own.sort(key=lambda point: point["macs"])
            if not own:
                continue
            errors = [point["test_error"] for point in own]
            axes.errorbar(
                [point["macs"] / 1e6 for point in own],
                errors,
                yerr=[
                    [e - point["low"] for e, point in zip(errors, own)],
                    [point["high"] - e for e, point in zip(errors, own)],
                ],
                color=color,
                marker=marker,
                markersize=12 if method == "dense" else 7,
                markeredgecolor="white",
                linewidth=1.4,
                elinewidth=0.8,
                label=label,
            )
        axes.set_title(network, loc="left", color=INK)
        axes.set_xlim(left=0)
        axes.set_xlabel("million multiply-accumulates of an image", color=INK)
        clean(axes)
    panels[0].set_ylabel("test error, %", color=INK)
    panels[-1].legend(frameon=False, fontsize=9)
    return figure


def sparse_trainings(results, titles):
    """Draws the error of each run, a line for each method.

    Args:
        results: a list of dicts with `name`, `test_error`, `connections` and
            `potential`.
        titles: a dict from names to what is shown, in order.

    Returns:
        A matplotlib figure.
    """
    # Not pyplot, whose figures live until somebody closes them.
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter
    from matplotlib.ticker import ScalarFormatter

    names = [
        name
        for name in titles
        if any(result["name"] == name for result in results)
    ]
    figure = Figure(figsize=(8, 0.42 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    for position, name in enumerate(names):
        own = [result for result in results if result["name"] == name]
        errors = [result["test_error"] for result in own]
        color = OPEN if "deep_r" in name or name[:5] == "lstm_" else EXPECTED
        if "dense" in name:
            color = INK
        axes.plot(
            errors,
            [position] * len(errors),
            "o",
            color=color,
            alpha=0.7,
            markersize=8,
            markeredgecolor="white",
        )
        shares = [
            100 * result["connections"] / result["potential"] for result in own
        ]
        low, high = min(shares), max(shares)
        share = _short(low)
        if high >= 1.1 * low:
            share = f"{share}-{_short(high)}"
        axes.annotate(
            f"{share} % of the connections",
            (1, position),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
            annotation_clip=False,
        )
    axes.set_yticks(range(len(names)), [titles[name] for name in names])
    axes.invert_yaxis()
    axes.set_xscale("log")
    # Those of a logarithmic axis would lie on each other.
    axes.set_xticks([1, 2, 3, 5, 10, 20, 50])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(*_around([result["test_error"] for result in results]))
    axes.set_xlabel("test error, %, a point for each seed", color=INK)
    clean(axes, axis="x", which="both")
    return figure


def _short(percent):
    # With ":.2g" alone 100 would be 1e+02.
    return f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"


def _around(errors):
    """Limits with some room for the points, none of which may be at 0."""
    return 0.8 * max(min(errors), 1e-3), 1.25 * max(max(errors), 1e-3)


def groups(results, titles):
    """Draws what each run is left with, a marker for each method.

    Args:
        results: a list of dicts with `name`, `test_error`, `params`, `macs`
            and `latency_us`.
        titles: a dict from names to what is shown, in order.

    Returns:
        A matplotlib figure with three panels of the test error over the
        compression ratio, the share of multiply-accumulates and the latency,
        compared with that of the dense network in the same run.
    """
    # Not pyplot, whose figures live until somebody closes them.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator
    from matplotlib.ticker import NullFormatter
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    quantities = (
        ("times fewer parameters", lambda r: r["params"][0] / r["params"][1]),
        (
            "multiply-accumulates left, %",
            lambda r: 100 * r["macs"][1] / r["macs"][0],
        ),
        (
            "times faster than dense, same run",
            lambda r: r["latency_us"][0] / r["latency_us"][1],
        ),
    )
    styles = zip(itertools.cycle(COLORS), itertools.cycle(GROUP_MARKERS))
    lines = []
    for name, (color, marker) in zip(titles, styles):
        own = [result for result in results if result["name"] == name]
        if not own:
            continue
        errors = [result["test_error"] for result in own]
        for axes, (_, quantity) in zip(panels, quantities):
            (line,) = axes.plot(
                [quantity(result) for result in own],
                errors,
                marker,
                color=color,
                alpha=0.7,
                markersize=8,
                markeredgecolor="white",
                label=titles[name],
            )
        lines.append(line)
    for axes, (label, _) in zip(panels, quantities):
        axes.set_xscale("log")
        axes.set_xlabel(label, color=INK)
        # Those of a logarithmic axis would lie on each other, or be missing.
        ticks = [base * 10**power for power in range(4) for base in (1, 2, 5)]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        clean(axes, which="both")
    panels[0].set_ylabel("test error, %", color=INK)
    figure.legend(
        handles=lines,
        loc="outside upper left",
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return figure
