"""Pictures of a run."""

import math

import numpy as np

from l0keras.callbacks.gate_logger import named_gates
from trainers.workdir import replacing

INK = "#222222"
MUTED = "#8a8a8a"
OPEN = "#0b6e8f"
EXPECTED = "#e08a1e"


def draw(model, input_shape, history, folder):
    """Draws what there is to see of a trained model.

    `pixel_gates.png` shows which pixels the first layer reads, where it has
    one gate for each; `units.png` the units alive over the epochs.

    Args:
        model: a trained model.
        input_shape: the shape of one image.
        history: a list of dicts, one for each epoch.
        folder: a `Workdir`.
    """
    gates = named_gates(model)
    if not gates:
        return
    first = next(iter(gates.values())).test_gates()
    if first.size == math.prod(input_shape):
        figure = pixel_gates(first.reshape(input_shape))
        _save(figure, folder.file("pixel_gates.png"))
    totals = {name: gate.log_alpha.shape[0] for name, gate in gates.items()}
    _save(units(history, totals), folder.file("units.png"))


def pixel_gates(gates):
    """A heat map of the gates on input pixels.

    Args:
        gates: an array `(height, width, channels)` of values in [0, 1].

    Returns:
        A matplotlib figure.
    """
    import matplotlib
    from matplotlib.figure import Figure

    heat = gates.mean(axis=-1)
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axes = figure.subplots()
    colors = matplotlib.colormaps["magma"]
    image = axes.imshow(heat, cmap=colors, vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    figure.suptitle(
        f"{np.count_nonzero(gates):,} of {gates.size:,} inputs are read",
        color=INK,
        fontsize=13,
    )
    bar = figure.colorbar(image, ax=axes, shrink=0.85, ticks=(0, 0.5, 1))
    bar.outline.set_visible(False)
    bar.set_label("test gate (0: closed for good)", color=INK)
    return figure


def units(history, totals):
    """The units alive in each layer over the epochs.

    Args:
        history: a list of dicts, one for each epoch, with what `GateLogger`
            logs.
        totals: a dict from layer names to their numbers of gates.

    Returns:
        A matplotlib figure with one panel for each layer.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(len(totals), 2)
    rows = math.ceil(len(totals) / columns)
    figure = Figure(
        figsize=(4.2 * columns, 2.6 * rows + 0.4), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).flat
    epochs = [row["epoch"] for row in history]
    for axes, (name, total) in zip(panels, totals.items()):
        alive = [row[f"{name}_open"] for row in history]
        expected = [row[f"{name}_expected"] for row in history]
        axes.plot(epochs, expected, color=EXPECTED, lw=1.4)
        axes.plot(epochs, alive, color=OPEN, lw=2.2)
        axes.set_title(
            f"{name}: {alive[-1]:,} of {total:,}",
            loc="left",
            color=INK,
            fontsize=11,
        )
        axes.set_ylim(0, 1.06 * total)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(colors=MUTED, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(axis="y", color="#e6e6e6", lw=0.8)
        axes.set_axisbelow(True)
    for axes in list(panels)[len(totals) :]:
        axes.set_visible(False)
    figure.supxlabel("epoch", color=INK, fontsize=10)
    figure.legend(
        [
            figure.axes[0].lines[1],
            figure.axes[0].lines[0],
        ],
        ["open at test time", "expected open in training"],
        loc="outside upper left",
        ncols=2,
        frameon=False,
        fontsize=10,
    )
    return figure


def _save(figure, path):
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
