"""The tables of the study of controllers."""

import statistics

from trainers.run.tables import NAMES

TITLES = {
    "budget": "GateBudget: an offset, no multiplier",
    "lagrange": "Lagrange with restarts",
    "nu_pi": "nuPI",
    "composed": "composed",
}
MEASURED = (
    "expected",
    "strip",
    "cut",
    "strip_error",
    "cut_error",
    "validation_error",
)


def points(results):
    """The cells with the medians of what was measured over seeds."""
    groups = {}
    for result in results:
        if "controller" in result:
            key = (result["of"], result["share"], result["controller"])
            groups.setdefault(key, []).append(result)
    return [
        {
            **dict(zip(("of", "share", "controller"), key)),
            "seeds": len(own),
            **{
                name: statistics.median(one[name] for one in own)
                for name in MEASURED
            },
        }
        for key, own in groups.items()
    ]


def _complete(found):
    """The points of those sizes that all controllers were asked for."""
    sizes = [(point["of"], point["share"]) for point in found]
    return [
        point
        for point, size in zip(found, sizes)
        if sizes.count(size) == len(TITLES)
    ]


def summary(results):
    """A line for each controller, over the sizes that all were asked for."""
    compared = _complete(points(results))
    count = len(compared) // len(TITLES)
    if not count:
        return []
    lines = [
        [
            f"controller, {count} sizes",
            "expected, of asked",
            "test gates, of asked",
            "error with test gates",
            "after the cut",
            "after fine-tuning",
            "the same at 10 % and below",
        ]
    ]
    for controller, title in TITLES.items():
        own = [one for one in compared if one["controller"] == controller]
        small = [one for one in own if one["share"] <= 0.1]
        lines.append(
            [
                title,
                _range(own, "expected"),
                _range(own, "strip"),
                *(_mean(own, name) for name in MEASURED[3:]),
                _mean(small, "validation_error"),
            ]
        )
    return lines


def _range(own, name):
    ratios = [point[name] / point["share"] for point in own]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def _mean(own, name):
    if not own:
        return "-"
    return f"{statistics.fmean(one[name] for one in own):.2f} %"


def cells(results):
    """A line for each cell that has been trained."""
    lines = [
        [
            "asked",
            "controller",
            "expected",
            "test gates",
            "cut",
            "error with test gates",
            "after the cut",
            "after fine-tuning",
            "seeds",
        ]
    ]
    for result in results:
        if "controller" not in result:
            error = f"{result['validation_error']:.2f} %"
            seed = f"{result['seed']}"
            lines.append(["-", "dense", *["-"] * 5, error, f"seed {seed}"])
    for point in points(results):
        lines.append(
            [
                f"{100 * point['share']:g} % of the {NAMES[point['of']]}",
                TITLES[point["controller"]],
                *(f"{100 * point[name]:.2f} %" for name in MEASURED[:3]),
                *(f"{point[name]:.2f} %" for name in MEASURED[3:]),
                f"{point['seeds']}",
            ]
        )
    return lines
