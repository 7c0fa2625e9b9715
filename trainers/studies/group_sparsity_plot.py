"""The picture of a comparison of groups of weights."""

import itertools

from trainers.run.plots import COLORS
from trainers.run.plots import INK

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw(results, titles):
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
            "times faster under LiteRT",
            lambda r: r["latency_us"][0] / r["latency_us"][1],
        ),
    )
    styles = zip(itertools.cycle(COLORS), itertools.cycle(_MARKERS))
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
        axes.grid(which="both", color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
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
