"""The picture of the study of controllers."""

from trainers.run.plots import COLORS
from trainers.run.plots import INK
from trainers.run.plots import MUTED
from trainers.run.plots import clean
from trainers.studies.plots import MARKERS


def draw(points, titles):
    """Draws what gates come to against the size that they are asked for.

    Args:
        points: a list of dicts with `controller`, `of`, `share` (asked),
            `expected`, a share too, and the `validation_error` at the end.
        titles: a dict from controllers to their titles, in order.

    Returns:
        A matplotlib figure: expected sizes, of those that were asked for, in
        the left panel, errors in the right one; parameters are hollow.
    """
    from matplotlib import ticker
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    ratios, errors = figure.subplots(1, 2)
    for of, kind in (("macs", "MACs"), ("params", "parameters")):
        for look in zip(titles.items(), COLORS, MARKERS):
            (controller, title), color, marker = look
            own = [
                point
                for point in points
                if (point["controller"], point["of"]) == (controller, of)
            ]
            if not own:
                continue
            own.sort(key=lambda point: point["share"])
            shares = [100 * point["share"] for point in own]
            look = {"color": color, "marker": marker}
            if of == "params":
                look |= {"markerfacecolor": "white", "linestyle": "--"}
            ratios.plot(
                shares,
                [point["expected"] / point["share"] for point in own],
                label=f"{title}, {kind}",
                **look,
            )
            errors.plot(
                shares, [point["validation_error"] for point in own], **look
            )
    ratios.axhline(1.0, color=MUTED, linewidth=0.8)
    ratios.set_ylabel("expected size, of what is asked for", color=INK)
    errors.set_ylabel("error on held-out examples, %", color=INK)
    ratios.set_yscale("log")
    asked = sorted({100 * point["share"] for point in points})
    plain = ticker.FuncFormatter(lambda value, _: f"{value:g}")
    for axes in (ratios, errors):
        clean(axes)
        axes.set_xscale("log")
        axes.set_xticks(asked, [f"{share:g}" for share in asked])
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_xlabel("% of the dense network, asked for", color=INK)
    ratios.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ratios.yaxis.set_major_formatter(plain)
    ratios.yaxis.set_minor_locator(ticker.NullLocator())
    figure.legend(
        loc="outside upper left",
        ncols=2,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return figure
