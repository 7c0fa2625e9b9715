"""The picture of a sweep."""

from trainers.run.plots import INK
from trainers.run.plots import MUTED
from trainers.run.plots import OPEN

# Color, marker and what the method is called.
STYLES = {
    "dense": (MUTED, "*", "dense"),
    "independent": (INK, "o", "independent gates"),
    "forward": (OPEN, "s", "Dep-L0, forward"),
    "backward": ("#e08a1e", "D", "Dep-L0, backward"),
}


def draw(points):
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
        for method, (color, marker, label) in STYLES.items():
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
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test error, %", color=INK)
    panels[-1].legend(frameon=False, fontsize=9)
    return figure
