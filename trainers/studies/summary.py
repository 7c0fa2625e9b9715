r"""Sets finished runs of one experiment beside each other.

    python -m trainers.studies.summary runs/mnist_mlp_l0-1 runs/mnist_mlp_l0-2 \
        runs/mnist_mlp_l0-3 --save_to=saved_models/mnist_mlp_l0

prints one row for each run and the medians, as a Markdown table, and with
`--save_to` keeps the small files of the run whose test error is the median,
with a card that says how they were made.

    python -m trainers.studies.summary --again=saved_models

writes the cards of all saved runs again from their files, and `runs.md`, the
table of every seed of every run.
"""

import json
import os
import pathlib
import shutil
import statistics

from absl import flags

from trainers.run import program
from trainers.run import tables
from trainers.run.config import Config
from trainers.run.workdir import replacing
from trainers.run.workdir import write_json
from trainers.run.workdir import write_text
from trainers.studies import study

FLAGS = flags.FLAGS

# What is worth keeping of a run; the gated model is larger by far.
KEPT = (
    "stripped.keras",
    "model.tflite",
    "report.json",
    "history.csv",
    "pixel_gates.png",
    "units.png",
    "connections.png",
    "groups.png",
)
METHODS = {
    "dense": "nothing but its loss",
    "l0": "hard-concrete gates",
    "dep_l0": "hard-concrete gates that depend on each other",
    "deep_r": "DEEP R",
    "soft_deep_r": "soft-DEEP R",
    "static": "a random mask that stays",
    "l1": "L1 shrinkage",
    "wgsef": "the group envelope and half-space steps",
    "group_lasso": "the group lasso",
    "hspg": "the group lasso and half-space steps",
}
COLUMNS = (
    ("seed", "{}", lambda report: report["seed"]),
    ("units left", "{}", lambda report: report["units"]["stripped"]),
    (
        "test error",
        "{:.2f} %",
        lambda report: report["test_error"]["stripped"],
    ),
    ("not averaged", "{:.2f} %", lambda report: report["test_error_raw"]),
    ("parameters", "{:,.0f}", lambda report: report["params"]["stripped"]),
    ("MACs", "{:,.0f}", lambda report: report["macs"]["stripped"]),
    ("LiteRT bytes", "{:,.0f}", lambda report: report["bytes"]["tflite"]),
    ("minutes", "{:.0f}", lambda report: report["seconds"] / 60),
)
# What a flagfile's head says before the settings that it does not have from a
# paper or from held-out examples; it goes on to the end of the sentence.
_TESTED = "Chosen by the test errors of earlier runs: "
# Those of the table of all runs.
_SHORT = ("seed", "units left", "test error", "parameters")


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "save_to",
        None,
        "Folder for the small files of the median run and their card.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "command",
        None,
        "Command that trained the runs, for the card; by default that of the "
        "flagfile with the folder's name.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "again",
        None,
        "Folder of saved runs whose cards and table to write again.",
        flag_values=flag_values,
    )


def read(workdirs):
    """Reads the reports of finished runs that differ in nothing but seeds.

    Args:
        workdirs: a list of folders.

    Returns:
        A list of reports (dicts), in the order of the folders.

    Raises:
        ValueError: no folder, one without a readable report, runs of
            different experiments, or the same seed twice.
    """
    if not workdirs:
        raise ValueError("At least one folder of a finished run is needed.")
    reports = []
    for workdir in workdirs:
        try:
            with open(os.path.join(workdir, "report.json")) as file:
                reports.append(json.load(file))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"The folder {workdir} holds no finished run ({error})."
            ) from None
    first, *others = [_without_seed(report) for report in reports]
    for workdir, other in zip(workdirs[1:], others):
        differing = [name for name in first if first[name] != other.get(name)]
        if differing:
            raise ValueError(
                f"The runs in {workdirs[0]} and {workdir} are different "
                f"experiments: they differ in {', '.join(differing)}."
            )
    seeds = [report["seed"] for report in reports]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"The same seed comes twice. Received: {seeds}")
    return reports


def _without_seed(report):
    return {k: v for k, v in report["config"].items() if k != "seed"}


def table(reports):
    """Sets reports as a Markdown table with a row of medians.

    Where dense networks were trained too, the last row has the median of their
    errors.

    Args:
        reports: a list of dicts, as `read` gives them.

    Returns:
        A string of several lines.
    """
    rows = [[title for title, _, _ in COLUMNS]]
    for report in reports:
        rows.append([form.format(value(report)) for _, form, value in COLUMNS])
    if len(reports) > 1:
        rows.append(["median", "", *_medians(reports)])
    dense = [
        report["test_error"]["dense"]
        for report in reports
        if "dense" in report["test_error"]
        and report["config"]["method"] != "dense"
    ]
    if dense:
        rows.append(_dense(dense, reports[0]))
    return tables.markdown(rows)


def _dense(errors, report):
    """The row of the same network without sparsity."""
    known = {
        "seed": "dense",
        "units left": report["units"]["dense"],
        "test error": f"{statistics.median(errors):.2f} %",
        "parameters": f"{report['params']['dense']:,}",
        "MACs": f"{report['macs']['dense']:,}",
        "LiteRT bytes": f"{report['bytes']['dense']:,}",
    }
    return [known.get(title, "-") for title, _, _ in COLUMNS]


def _medians(reports):
    return [
        form.format(statistics.median([value(report) for report in reports]))
        for _, form, value in COLUMNS[2:]
    ]


def save(workdirs, reports, folder, command=None):
    """Keeps the small files of the run with the median test error.

    Args:
        workdirs: a list of folders.
        reports: their reports, in the same order.
        folder: where to, made where it does not exist.
        command: the command that trained the runs, for the card.
    """
    median = _median(reports)
    os.makedirs(folder, exist_ok=True)
    for name in KEPT:
        source = os.path.join(workdirs[median], name)
        if os.path.exists(source):
            with replacing(os.path.join(folder, name)) as path:
                shutil.copyfile(source, path)
    write_json(os.path.join(folder, "seeds.json"), reports)
    write_text(
        os.path.join(folder, "README.md"), card(reports, folder, command)
    )


def _median(reports):
    """The index of the report with the median test error."""

    def error(index):
        return reports[index]["test_error"]["stripped"]

    order = sorted(range(len(reports)), key=error)
    # Of two in the middle the worse, so that nothing looks better than it is.
    return order[len(order) // 2]


def saved(root):
    """The saved runs in a folder.

    Args:
        root: a folder with a folder for each run, as `save` leaves it.

    Returns:
        A dict from the folders' paths to lists of reports, one for each seed.
    """
    found = {}
    for path in sorted(pathlib.Path(root).glob("*/seeds.json")):
        found[str(path.parent)] = json.loads(path.read_text())
    return found


def runs_table(root):
    """Every seed of every saved run, as a Markdown table.

    Its last column has the settings that were chosen by test errors.
    """
    columns = [column for column in COLUMNS if column[0] in _SHORT]
    titles = [title for title, _, _ in columns]
    rows = [["flagfile", *titles, "chosen by test errors"]]
    for folder, reports in saved(root).items():
        name = os.path.basename(folder)
        tested = chosen_by_test_errors(name) or "-"
        for report in reports:
            cells = [form.format(value(report)) for _, form, value in columns]
            rows.append([f"`{name}`", *cells, tested])
    return tables.markdown(rows)


def chosen_by_test_errors(name):
    """The settings that a flagfile says were chosen by test errors.

    Args:
        name: the name of an experiment.

    Returns:
        A string, empty where there is no such flagfile or no such setting.
    """
    path = study.EXPERIMENTS / f"{name}.flags"
    if not path.exists():
        return ""
    lines = path.read_text().splitlines()
    heads = (line.lstrip("# ") for line in lines if line.startswith("#"))
    return " ".join(heads).partition(_TESTED)[2].partition(".")[0]


def write_again(root):
    """Writes the cards of saved runs, and their table, from their files."""
    for folder, reports in saved(root).items():
        write_text(os.path.join(folder, "README.md"), card(reports, folder))
    write_text(os.path.join(root, "runs.md"), runs_table(root) + "\n")


def card(reports, folder, command=None):
    """The card of a saved run.

    Args:
        reports: its reports, one for each seed.
        folder: its folder, which has the name of the flagfile.
        command: the command that trained it, `None` for that of the flagfile.

    Returns:
        Markdown, a string of several lines.
    """
    kept = reports[_median(reports)]
    config = kept["config"]
    name = os.path.basename(os.path.normpath(folder))
    defaults = Config().to_json()
    settings = ", ".join(
        f"{key} {_listed(value)}"
        for key, value in config.items()
        if key != "seed" and value != defaults.get(key)
    )
    versions = ", ".join(f"{k} {v}" for k, v in kept["versions"].items())
    lines = [
        f"# {name}",
        "",
        f"{config['model']} trained on {config['dataset']} with "
        f"{METHODS[config['method']]}, stripped to {kept['units']['stripped']} "
        f"({kept['params']['stripped']:,} of {kept['params']['dense']:,} "
        "parameters).",
        "",
        f"{_which(reports, kept)} {_what_errors(config)}",
        "",
        table(reports),
        "",
    ]
    command = command or (
        "python -m trainers.train "
        f"--flagfile=trainers/experiments/{name}.flags "
        f"--seed={kept['seed']} --workdir=runs/{name}-{kept['seed']}"
    )
    lines += [
        "```",
        command,
        "```",
        "",
        f"Settings other than the trainer's defaults: {settings}.",
        "",
        *_tested(name),
        f"Versions: {versions}.",
        "",
        "`stripped.keras` is a plain Keras model and `model.tflite` the same "
        "for LiteRT; both take images scaled to [0, 1] and give logits. "
        "`report.json` has all numbers, `seeds.json` those of every seed.",
        "",
    ]
    return "\n".join(lines)


def _tested(name):
    settings = chosen_by_test_errors(name)
    if not settings:
        return []
    return [
        f"{_TESTED}{settings}. So these errors are a little too good.",
        "",
    ]


def _which(reports, kept):
    if len(reports) == 1:
        return f"One seed was run, {kept['seed']}."
    return f"The files are those of seed {kept['seed']}, the median test error."


def _what_errors(config):
    text = "All errors are those of the last epoch"
    if config["ema_momentum"]:
        text += ", on averaged weights"
    if config["method"] in ("l0", "dep_l0"):
        text += " with test gates; units left are those with open ones"
    return f"{text}."


def _listed(value):
    if isinstance(value, list):
        return "/".join(f"{entry:g}" for entry in value)
    return f"{value}"


@program.main(arguments=True)
def main(workdirs):
    if FLAGS.again:
        write_again(FLAGS.again)
        return
    reports = read(workdirs)
    print(table(reports))
    if FLAGS.save_to:
        save(workdirs, reports, FLAGS.save_to, FLAGS.command)


if __name__ == "__main__":
    program.run(main, define_flags)
