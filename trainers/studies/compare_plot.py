"""The picture of a comparison."""

from trainers.run.plots import INK
from trainers.run.plots import MUTED
from trainers.run.plots import OPEN

# By what a variant is made of, and by what was done to it.
COLORS = {"dense": MUTED, "pruned": "#e08a1e", "l0": OPEN}
MARKERS = {
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


def draw(rows):
    """Draws errors against sizes and against latencies.

    Args:
        rows: what `Comparison.run` returns.

    Returns:
        A matplotlib figure.
    """
    # Not pyplot, whose figures live until somebody closes them.
    from matplotlib import ticker
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (key, unit, label, ticks) in zip(panels, PANELS):
        for name, row in rows.items():
            origin, _, form = name.partition(", ")
            axes.plot(
                unit * row[key],
                row["test_error"],
                MARKERS[form],
                color=COLORS[origin],
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
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test error, %", color=INK)
    figure.legend(
        loc="outside right center",
        frameon=False,
        fontsize=9,
        title="down and to the left is better",
        title_fontsize=9,
    )
    return figure
