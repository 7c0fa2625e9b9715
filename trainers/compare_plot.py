"""The picture of a comparison."""

from trainers.plots import INK
from trainers.plots import MUTED
from trainers.plots import OPEN

STYLES = {"dense": (MUTED, "s"), "pruned": ("#e08a1e", "^"), "l0": (OPEN, "o")}
PANELS = (
    ("bytes", "bytes of the file"),
    ("latency_us", "latency of one example on one thread, us"),
)


def draw(rows):
    """Draws errors against sizes and against latencies.

    Args:
        rows: what `Comparison.run` returns.

    Returns:
        A matplotlib figure.
    """
    # Not pyplot, whose figures live until somebody closes them.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (key, label) in zip(panels, PANELS):
        for number, (name, row) in enumerate(rows.items(), 1):
            color, marker = STYLES[name.split(",")[0]]
            axes.plot(
                row[key],
                row["test_error"],
                marker,
                color=color,
                markersize=9,
                markeredgecolor="white",
                # Only once in the legend.
                label=f"{number}  {name}" if key == "bytes" else None,
            )
            axes.annotate(
                str(number),
                (row[key], row["test_error"]),
                xytext=(6, 5),
                textcoords="offset points",
                color=INK,
                fontsize=9,
            )
        axes.set_xscale("log")
        axes.set_xlabel(label, color=INK)
        axes.grid(color="#e6e6e6", which="both", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test error, %", color=INK)
    panels[0].set_title(
        "down and to the left is better", loc="left", color=INK, fontsize=10
    )
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure
