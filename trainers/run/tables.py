"""Tables for terminals and for pages, and the table that a run ends with."""

STAGES = ("dense", "gated", "sparse", "stripped", "tflite", "tflite_sparse")
TITLES = {
    "dense": "dense",
    "gated": "gated",
    "sparse": "sparse",
    "stripped": "stripped",
    "tflite": "LiteRT",
    "tflite_sparse": "LiteRT, sparse encoding",
}
# What is counted, in the names of targets.
NAMES = {"params": "parameters", "macs": "MACs", "units": "units"}
COLUMNS = (
    ("test_error", "test error", "{:.2f} %"),
    ("units", "units", "{}"),
    ("params", "parameters", "{:,}"),
    ("connections", "connections", "{:,}"),
    ("macs", "MACs", "{:,}"),
    ("bytes", "file bytes", "{:,}"),
    ("latency_us", "latency", "{:.0f} us"),
)


def table(report):
    """Sets a report as a table, one line for each stage.

    Args:
        report: a dict as in a workdir's `report.json`.

    Returns:
        A string of several lines.
    """
    columns = [column for column in COLUMNS if column[0] in report]
    rows = [["", *(title for _, title, _ in columns)]]
    for stage in STAGES:
        cells = [
            form.format(report[key][stage]) if stage in report[key] else "-"
            for key, _, form in columns
        ]
        if any(cell != "-" for cell in cells):
            rows.append([TITLES[stage], *cells])
    lines = text(rows).splitlines()
    return "\n".join(["", *lines, lines[1], _notes(report)])


def text(rows):
    """Sets rows as a table for a terminal, with a rule below the first.

    Args:
        rows: lists of strings of the same length; the first are titles.

    Returns:
        A string of several lines.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(rows):
    """Sets rows as a table for a page.

    Args:
        rows: lists of strings of the same length; the first are titles.

    Returns:
        A string of several lines.
    """
    head, *lines = rows
    return "\n".join(
        f"| {' | '.join(line)} |"
        for line in [head, ["---"] * len(head), *lines]
    )


def median_run(runs, value):
    """The run with the median of a value, of an even number the larger one.

    A table shows the error of this run and its size, so that both belong
    together.

    Args:
        runs: a list, not empty.
        value: a function from a run to a number.
    """
    return sorted(runs, key=value)[len(runs) // 2]


def _targets(report):
    return "".join(
        f"Asked for at most {size['asked']:,.0f} {NAMES[of]}, reached "
        f"{size['reached']:,}.\n"
        for of, size in report.get("targets", {}).items()
    )


def _notes(report):
    config = report["config"]
    weights = "the weights after the last epoch"
    if config.get("patience"):
        weights = "the weights of the best epoch in validation"
    elif config.get("ema_momentum", True):
        weights = (
            "the averaged weights after the last epoch\n"
            f"({report['test_error_raw']:.2f} % without averaging)"
        )
    return _targets(report) + (
        f"{config['model']} on {config['dataset']}, seed {report['seed']}: "
        f"{report['epochs']} epochs in {report['seconds']:.0f} s. Errors are "
        f"those of {weights}; latency is one example under LiteRT on one "
        "thread; dense is a LiteRT file too."
    )


def cells(columns, row):
    """The cells of a row.

    Args:
        columns: pairs of a title and a function from the row to a string.
        row: a dictionary.

    Returns:
        A list of strings, `-` where the row lacks what the function reads.
    """
    found = []
    for _, cell in columns:
        try:
            found.append(cell(row))
        except KeyError:
            found.append("-")
    return found
