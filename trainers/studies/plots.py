"""The pictures of studies."""

import itertools
import statistics

from trainers.run.plots import COLORS
from trainers.run.plots import EXPECTED
from trainers.run.plots import INK
from trainers.run.plots import MUTED
from trainers.run.plots import OPEN
from trainers.run.plots import clean

ERROR = "test error, %"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Of `files`: colors by the origin of a file, markers by its form.
ORIGINS = {
    "dense": MUTED,
    "pruned": EXPECTED,
    "from scratch": INK,
    "l0": OPEN,
}
FORMS = {
    "": "o",
    "sparse encoding": "^",
    "int8": "s",
    "int8, fine-tuned": "D",
    "clustered": "P",
    "clustered, int8, fine-tuned": "X",
}
# Of `prices`: color, marker and label of a kind of gates.
GATES = {
    "dense": (MUTED, "*", "dense"),
    "independent": (INK, "o", "independent gates"),
    "forward": (OPEN, "s", "Dep-L0, forward"),
    "backward": (EXPECTED, "D", "Dep-L0, backward"),
}


def _panels(width, height, columns=1, rows=1, **sharing):
    """A figure of so many inches, and a list of its axes, row by row."""
    # Not pyplot, whose figures live until somebody closes them.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **sharing)
    return figure, list(panels.flat)


def _log_scale(axes, digits, which="x"):
    """Makes an axis logarithmic, with plain numbers at ticks.

    Args:
        axes: of matplotlib.
        digits: the first digits of the numbers that have a tick.
        which: `"x"` or `"y"`.
    """
    from matplotlib import ticker

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(ticker.LogLocator(subs=digits))
    axis.set_major_formatter(
        ticker.FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 10 else f"{x:g}")
    )
    # Ticks between these would lie on each other.
    axis.set_minor_locator(ticker.NullLocator())


def files(results):
    """Draws errors against sizes and against latencies, a marker each file.

    Args:
        results: a list of dicts with `name`, `test_error`, `bytes` and
            `latency_us`.

    Returns:
        A matplotlib figure of two panels.
    """
    points = []
    for result in results:
        origin, _, form = result["name"].partition(", ")
        looks = (ORIGINS[origin], FORMS[form], result["name"])
        points.append((looks, [result]))
    figure = _scatter(
        points,
        (
            ("size of the file, kB", lambda r: r["bytes"] / 1000),
            ("latency of one example on one thread, us", _latency),
        ),
        (11, 4.2),
        ((1, 2, 5), (1, 2, 3, 5)),
    )
    for axes in figure.axes:
        axes.margins(x=0.12)
        axes.set_ylim(bottom=0)
    _legend(
        figure,
        "outside right center",
        title="down and to the left is better",
        title_fontsize=9,
    )
    return figure


def _latency(result):
    return result["latency_us"]


def groups(results, titles):
    """Draws errors against sizes and speeds, a marker for each method.

    Args:
        results: a list of dicts with `name`, `test_error`, `params`, `macs`
            and `latency_us`.
        titles: a dict from the names of rows to their titles, in order.

    Returns:
        A matplotlib figure of three panels: the test error over the
        compression ratio, over the share of multiply-accumulates, and over
        the speed, compared with the dense network of the same run.
    """
    points = []
    looks = zip(itertools.cycle(COLORS), itertools.cycle(MARKERS))
    for (name, title), (color, marker) in zip(titles.items(), looks):
        own = [result for result in results if result["name"] == name]
        if own:
            points.append(((color, marker, title), own))
    figure = _scatter(
        points,
        (
            (
                "times fewer parameters",
                lambda r: r["params"][0] / r["params"][1],
            ),
            (
                "multiply-accumulates left, %",
                lambda r: 100 * r["macs"][1] / r["macs"][0],
            ),
            (
                "times faster than dense, same run",
                lambda r: r["latency_us"][0] / r["latency_us"][1],
            ),
        ),
        (11, 5),
        ((1, 2, 5),) * 3,
    )
    _legend(figure, "outside upper left", ncols=3)
    return figure


def sizes(
    results,
    titles,
    error="test_error",
    quantity=("params", "parameters left"),
):
    """Draws errors against sizes, a marker for each network and size.

    Args:
        results: a list of dicts with `name`, the error and the size.
        titles: a dict from the names of rows to their titles, in order.
        error: `"test_error"` or `"validation_error"`.
        quantity: the key of the size, and what to call it.

    Returns:
        A matplotlib figure.
    """
    points = []
    looks = zip(itertools.cycle(COLORS), itertools.cycle(MARKERS))
    for (name, title), (color, marker) in zip(titles.items(), looks):
        own = [result for result in results if result["name"] == name]
        if own:
            points.append(((color, marker, title), own))
    figure = _scatter(
        points,
        ((f"{quantity[1]}, a point for each seed", lambda r: r[quantity[0]]),),
        (9, 4),
        ((1, 2, 5),),
        error,
    )
    _legend(figure, "outside right center")
    return figure


def ways(results, networks):
    """Draws errors against the sizes asked for, a panel each network and size.

    Args:
        results: a list of dicts with `network`, `of`, `asked`, `dense_error`
            and an error for each way to the size.
        networks: a dict from names to objects with a `title`.

    Returns:
        A matplotlib figure.
    """
    sizes = ("macs", "params")
    shown = [
        name for name in networks if any(r["network"] == name for r in results)
    ]
    looks = {
        "norm": (EXPECTED, "^", "cut by norms"),
        "scratch": (INK, "s", "small network from scratch"),
        "compress": (OPEN, "o", "compress"),
    }
    rows = max(len(shown), 1)
    figure, panels = _panels(9, 0.5 + 3 * rows, len(sizes), rows)
    first = None
    for axes, (name, of) in zip(panels, itertools.product(shown, sizes)):
        own = [r for r in results if r["network"] == name and r["of"] == of]
        if not own:
            axes.set_axis_off()
            continue
        # The legend has each way once.
        first = first or axes
        shares = sorted({result["asked"] for result in own})
        for way, (color, marker, title) in looks.items():
            errors = [
                [r[way] for r in own if r["asked"] == share] for share in shares
            ]
            axes.plot(
                [100 * share for share in shares],
                [statistics.median(few) for few in errors],
                color=color,
                marker=marker,
                markeredgecolor="white",
                label=title if axes is first else None,
            )
            for share, few in zip(shares, errors):
                axes.plot([100 * share] * 2, [min(few), max(few)], color=color)
        dense = statistics.median(result["dense_error"] for result in own)
        axes.axhline(
            dense,
            color=MUTED,
            linestyle="--",
            label="dense" if axes is first else None,
        )
        clean(axes)
        _log_scale(axes, (1, 2, 5))
        low, high = axes.get_ylim()
        few, many = (1, 2, 3, 5), (1, 1.2, 1.5, 2, 3, 5, 7)
        _log_scale(axes, few if high > 8 * low else many, "y")
        axes.set_xlabel(f"{of} asked for, % of the dense", color=INK)
        axes.set_title(networks[name].title, color=INK, fontsize=9)
    for axes in panels[:: len(sizes)]:
        axes.set_ylabel(ERROR, color=INK)
    _legend(figure, "outside lower center", ncols=4)
    return figure


def _scatter(points, quantities, size, ticks, error="test_error"):
    """Panels of errors over quantities, on logarithmic axes.

    Args:
        points: a list of pairs: color, marker and label, and a list of
            results.
        quantities: a pair for each panel: a label, and a function from a
            result to a number.
        size: width and height in inches.
        ticks: for each panel, see `_log_scale`.
        error: `"test_error"` or `"validation_error"`.
    """
    figure, panels = _panels(*size, len(quantities), sharey=True)
    for axes, (label, quantity), digits in zip(panels, quantities, ticks):
        for (color, marker, title), results in points:
            axes.plot(
                [quantity(result) for result in results],
                [result[error] for result in results],
                marker,
                color=color,
                markersize=9,
                markeredgecolor="white",
                # Neighbors show through.
                alpha=0.8,
                label=title if axes is panels[0] else None,
            )
        clean(axes)
        _log_scale(axes, digits)
        axes.set_xlabel(label, color=INK)
    label = ERROR if error == "test_error" else "error on held-out examples, %"
    panels[0].set_ylabel(label, color=INK)
    return figure


def _legend(figure, place, **arguments):
    figure.legend(
        loc=place, frameon=False, fontsize=9, labelcolor=INK, **arguments
    )


def prices(points):
    """Draws errors against multiply-accumulates, a panel each network.

    Errors on held-out examples are a line, and those on the test set of what
    was chosen by them are hollow markers. Without the former the latter are
    the line.

    Args:
        points: a list of dicts with `network`, `method`, `examples`, `macs`,
            the mean `error` and its range from `low` to `high`, which becomes
            a bar.

    Returns:
        A matplotlib figure.
    """
    networks = list(dict.fromkeys(point["network"] for point in points))
    chooses = any(point["examples"] == "held out" for point in points)
    figure, panels = _panels(5.2 * len(networks) + 1, 4.2, len(networks))
    for axes, network in zip(panels, networks):
        for method, look in GATES.items():
            for examples in ("held out", "test"):
                own = [
                    point
                    for point in points
                    if (point["network"], point["method"], point["examples"])
                    == (network, method, examples)
                ]
                if own:
                    hollow = chooses and examples == "test"
                    _price_line(axes, own, look, hollow)
        clean(axes)
        axes.set_title(network, loc="left", color=INK)
        axes.set_xlim(left=0)
        axes.set_xlabel("million multiply-accumulates of an image", color=INK)
    label = "error on held-out examples (hollow: test), %" if chooses else ERROR
    panels[0].set_ylabel(label, color=INK)
    panels[-1].legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _price_line(axes, points, look, hollow):
    color, marker, label = look
    points = sorted(points, key=lambda point: point["macs"])
    errors = [point["error"] for point in points]
    axes.errorbar(
        [point["macs"] / 1e6 for point in points],
        errors,
        yerr=[
            [e - point["low"] for e, point in zip(errors, points)],
            [point["high"] - e for e, point in zip(errors, points)],
        ],
        color=color,
        marker=marker,
        markersize=12 if marker == "*" else 7,
        markerfacecolor="none" if hollow else color,
        markeredgecolor=color if hollow else "white",
        linewidth=0 if hollow else 1.4,
        elinewidth=0.8,
        label=None if hollow else label,
    )


def sparse_trainings(results, titles):
    """Draws the error of each run, a line for each method.

    Args:
        results: a list of dicts with `name`, `test_error`, `connections` and
            `potential`.
        titles: a dict from the names of rows to their titles, in order.

    Returns:
        A matplotlib figure.
    """
    found = {
        name: [result for result in results if result["name"] == name]
        for name in titles
    }
    found = {name: own for name, own in found.items() if own}
    figure, (axes,) = _panels(8, 0.42 * len(found) + 1.2)
    for position, (name, own) in enumerate(found.items()):
        color = OPEN if "deep_r" in name or name[:5] == "lstm_" else EXPECTED
        axes.plot(
            [result["test_error"] for result in own],
            [position] * len(own),
            "o",
            color=INK if "dense" in name else color,
            alpha=0.7,
            markersize=8,
            markeredgecolor="white",
        )
        axes.annotate(
            f"{_shares(own)} % of the connections",
            (1, position),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
            annotation_clip=False,
        )
    clean(axes, axis="x")
    axes.set_yticks(range(len(found)), [titles[name] for name in found])
    axes.invert_yaxis()
    _log_scale(axes, (1, 2, 3, 5))
    errors = [result["test_error"] for result in results]
    # A logarithmic axis has no 0.
    axes.set_xlim(0.8 * max(min(errors), 1e-3), 1.25 * max(max(errors), 1e-3))
    axes.set_xlabel(f"{ERROR}, a point for each seed", color=INK)
    return figure


def _shares(results):
    shares = [100 * r["connections"] / r["potential"] for r in results]
    low, high = min(shares), max(shares)
    if high < 1.1 * low:
        return _short(low)
    return f"{_short(low)}-{_short(high)}"


def _short(percent):
    # With ":.2g" alone 100 would be 1e+02.
    return f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"
