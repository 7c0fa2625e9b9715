"""Pictures of a run, and what all pictures share: colors, axes, saving."""

import itertools
import math

import numpy as np

from l0keras.callbacks import named_gates
from trainers.run.workdir import replacing

INK = "#222222"
MUTED = "#8a8a8a"
GRID = "#e6e6e6"
OPEN = "#0b6e8f"
EXPECTED = "#e08a1e"
COLORS = (OPEN, EXPECTED, INK, "#7a9e3a", "#a0447f", MUTED)


def axes_of(width, height, columns=1, rows=1, **kwargs):
    """A figure and its axes, in the order in which one reads.

    Args:
        width, height: of the figure, in inches.
        columns, rows: of axes.
        **kwargs: for `Figure.subplots`, such as `sharey`.

    Returns:
        A pair: a matplotlib figure, and a list of its axes.
    """
    # Not pyplot, whose figures live until somebody closes them.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(
        figure.subplots(rows, columns, squeeze=False, **kwargs).flat
    )


def clean(axes, **grid):
    """Gives axes a pale grid behind the marks, and no frame above and right.

    Args:
        axes: matplotlib axes.
        **grid: further arguments of their `grid`.
    """
    axes.grid(color=GRID, linewidth=0.6, **grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure, path):
    """Writes a figure as a PNG file, all or nothing."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def draw(model, input_shape, history, folder):
    """Draws what there is to see of a trained model.

    `pixel_gates.png` shows which pixels the first layer reads, where it has
    one gate for each; `units.png` the units alive over the epochs;
    `connections.png` the connections of DEEP R; `groups.png` the groups of
    weights that are left.

    Args:
        model: a trained model.
        input_shape: the shape of one image.
        history: a list of dicts, one for each epoch.
        folder: a `Workdir`.
    """
    if _names(history, "_rewired"):
        sizes = {
            variable.path: math.prod(variable.shape)
            for variable in model.trainable_variables
        }
        save(connections(history, sizes), folder.file("connections.png"))
    if _names(history, "_kept"):
        save(groups(history), folder.file("groups.png"))
    gates = named_gates(model)
    if not gates:
        return
    first = next(iter(gates.values())).test_gates()
    if first.size == math.prod(input_shape):
        figure = pixel_gates(first.reshape(input_shape))
        save(figure, folder.file("pixel_gates.png"))
    totals = {name: gate.test_gates().size for name, gate in gates.items()}
    save(units(history, totals), folder.file("units.png"))


def pixel_gates(gates):
    """A heat map of the gates on input pixels.

    Args:
        gates: an array `(height, width, channels)` of values in [0, 1].

    Returns:
        A matplotlib figure.
    """
    figure, (axes,) = axes_of(5.2, 4.6)
    image = axes.imshow(gates.mean(axis=-1), cmap="magma", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"{np.count_nonzero(gates):,} of {gates.size:,} inputs are read",
        loc="left",
        color=INK,
    )
    bar = figure.colorbar(image, ax=axes, ticks=(0, 0.5, 1))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelcolor=INK)
    bar.set_label("test gate", color=INK)
    return figure


def units(history, totals):
    """The units alive in each layer over the epochs.

    Args:
        history: a list of dicts, one for each epoch, with what `GateLogger`
            logs and `val_accuracy`.
        totals: a dict from layer names to their numbers of gates.

    Returns:
        A matplotlib figure with one panel for each layer and one for the
        test error.
    """
    count = len(totals) + 1
    columns = min(count, 3 if count > 4 else 2)
    rows = math.ceil(count / columns)
    figure, panels = axes_of(3.6 * columns, 2.4 * rows + 0.4, columns, rows)
    epochs = [row["epoch"] for row in history]
    for axes, (name, total) in zip(panels, totals.items()):
        # There are none after a cut.
        gated = [row for row in history if f"{name}_open" in row]
        own = [row["epoch"] for row in gated]
        alive = [row[f"{name}_open"] for row in gated]
        expected = [row[f"{name}_expected"] for row in gated]
        (expectation,) = axes.plot(own, expected, color=EXPECTED, lw=1.4)
        (test,) = axes.plot(own, alive, color=OPEN, lw=2.2)
        _over_epochs(axes, f"{name}: {alive[-1]:,} of {total:,}")
        axes.set_ylim(0, 1.06 * total)
        axes.set_yticks([0, total / 2, total])
    error = _errors(history)
    axes = panels[count - 1]
    axes.plot(epochs, error, color=INK, lw=1.4)
    _over_epochs(axes, f"test error: {error[-1]:.2f} %")
    # The first epochs would press the others flat.
    axes.set_ylim(0, max(3 * float(np.median(error)), 1e-3))
    for axes in panels[count:]:
        axes.set_visible(False)
    figure.supxlabel("epoch", color=INK, fontsize=10)
    figure.legend(
        [test, expectation],
        ["open at test time", "expected open in training"],
        loc="outside upper left",
        ncols=2,
        frameon=False,
        fontsize=10,
        labelcolor=INK,
    )
    return figure


def groups(history):
    """The groups of weights that are left over the epochs.

    Args:
        history: a list of dicts, one for each epoch, with what `GroupLogger`
            logs and `val_accuracy`.

    Returns:
        A matplotlib figure with two panels: the groups of each layer, and the
        error.
    """
    figure, (left, errors) = axes_of(9, 3.6, 2)
    epochs = [row["epoch"] for row in history]
    names = _names(history, "_kept")
    for name, color in zip(names, itertools.cycle(COLORS)):
        kept = [row[f"{name}_kept"] for row in history]
        left.plot(
            epochs,
            kept,
            color=color,
            lw=2,
            label=f"{name}: {kept[-1]:,}",
        )
    _over_epochs(left, "groups left")
    left.set_yscale("symlog", linthresh=1)
    left.set_ylim(bottom=0)
    # Deep networks have more layers than a legend has room.
    if len(names) <= len(COLORS):
        left.legend(frameon=False, fontsize=9, labelcolor=INK)
    error = _errors(history)
    errors.plot(epochs, error, color=INK, lw=2)
    _over_epochs(errors, f"error: {error[-1]:.2f} %")
    errors.set_ylim(0, max(3 * float(np.median(error)), 1e-3))
    figure.supxlabel("epoch", color=INK, fontsize=10)
    return figure


def connections(history, sizes):
    """What DEEP R did to the connections over the epochs.

    Args:
        history: a list of dicts, one for each epoch, with what
            `ConnectionLogger` logs and `val_accuracy`.
        sizes: a dict from the paths of variables to their sizes.

    Returns:
        A matplotlib figure with three panels: the share of active
        connections of each variable, how often in an epoch each of them was
        replaced on average, and the error.
    """
    figure, (active, turnover, errors) = axes_of(11, 3.4, 3)
    epochs = [row["epoch"] for row in history]
    paths = _names(history, "_active")
    for path, color in zip(paths, itertools.cycle(COLORS)):
        shares = [row[f"{path}_active"] for row in history]
        active.plot(epochs, [100 * s for s in shares], color=color, lw=2)
        rewired = [
            row[f"{path}_rewired"] / max(1.0, share * sizes[path])
            for row, share in zip(history, shares)
        ]
        turnover.plot(epochs, rewired, color=color, lw=2, label=path)
    error = _errors(history)
    errors.plot(epochs, error, color=INK, lw=2)
    _over_epochs(active, "active connections, %")
    active.set_yscale("log")
    _over_epochs(turnover, "times replaced in an epoch")
    turnover.set_ylim(bottom=0)
    _over_epochs(errors, f"error: {error[-1]:.2f} %")
    errors.set_ylim(bottom=0)
    figure.supxlabel("epoch", color=INK, fontsize=10)
    turnover.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _over_epochs(axes, title):
    from matplotlib.ticker import MaxNLocator

    clean(axes, axis="y")
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _errors(history):
    return [100 * (1 - row["val_accuracy"]) for row in history]


def _names(history, ending):
    """The layers or variables for which there is a column of that ending."""
    return [
        name.removesuffix(ending)
        for name in history[0]
        if name.endswith(ending)
    ]
