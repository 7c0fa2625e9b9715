"""The picture of a report."""

INK = "#222222"
BEFORE = "#d9d9d9"
AFTER = "#0b6e8f"
# More layers than this are drawn without a name each.
NAMED = 60


def draw(layers, total):
    """Draws the parameters and MACs of each layer before and after.

    Args:
        layers: a list of dictionaries with `name`, `params` and `macs`, the
            last two pairs of numbers. Those without MACs are left out.
        total: a dictionary of the sums.

    Returns:
        A matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    # Not pyplot, whose figures live until somebody closes them.
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "The picture of a report is drawn by matplotlib. Install it with "
            "`pip install 'l0keras[plot]'`."
        ) from error

    # Normalization and gates are small and many.
    layers = [layer for layer in layers if any(layer["macs"])] or layers
    height = 0.22 * min(len(layers), NAMED) + 1.2
    figure = Figure(figsize=(9, height), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, title in zip(
        panels, ("params", "macs"), ("parameters", "MACs"), strict=True
    ):
        _bars(axes, [layer[key] for layer in layers])
        before, after = total[key]
        share = f" ({after / before:.1%})" if before > 0 else ""
        axes.set_title(
            f"{title}: {_number(before)} to {_number(after)}{share}",
            loc="left",
            color=INK,
            fontsize=11,
        )
    axes = panels[0]
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_yticks([])
    if len(layers) <= NAMED:
        names = [layer["name"] for layer in layers]
        axes.set_yticks(range(len(layers)), names, fontsize=8, color=INK)
    else:
        axes.set_ylabel(f"{len(layers)} layers, from the input down", color=INK)
    bars = axes.containers
    figure.legend(
        bars,
        ["before", "after"],
        loc="outside upper right",
        ncols=2,
        frameon=False,
        labelcolor=INK,
    )
    return figure


def _bars(axes, pairs):
    from matplotlib.ticker import EngFormatter

    rows = range(len(pairs))
    before = [max(pair[0], 0) for pair in pairs]
    after = [max(pair[1], 0) for pair in pairs]
    axes.barh(rows, before, height=0.8, color=BEFORE)
    axes.barh(rows, after, height=0.8, color=AFTER)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(labelsize=8, labelcolor=INK)


def _number(count):
    return f"{count:,}" if count >= 0 else "?"
