"""The picture of a comparison of sparse trainings."""

from trainers.run.plots import EXPECTED
from trainers.run.plots import INK
from trainers.run.plots import OPEN


def draw(results, titles):
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
    axes.grid(axis="x", which="both", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _short(percent):
    # With ":.2g" alone 100 would be 1e+02.
    return f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"


def _around(errors):
    """Limits with some room for the points, none of which may be at 0."""
    return 0.8 * max(min(errors), 1e-3), 1.25 * max(max(errors), 1e-3)
