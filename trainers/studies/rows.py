"""The lines of a table that compares trainings."""

import dataclasses
import os
import pathlib

from absl import flags

from trainers import train as train_lib
from trainers.run import config as config_lib
from trainers.run import program

EXPERIMENTS = str(pathlib.Path(__file__).parents[1] / "experiments")


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table: an experiment and what differs from it.

    Args:
        name: its name in flags and folders.
        title: what is shown.
        flagfile: the name of the experiment.
        changes: a dict of settings that differ from it.
    """

    name: str
    title: str
    flagfile: str
    changes: dict = dataclasses.field(default_factory=dict)

    def config(self, seed):
        """The `Config` of a run."""
        values = flags.FlagValues()
        train_lib.define_flags(values)
        path = os.path.join(EXPERIMENTS, f"{self.flagfile}.flags")
        values(["train", f"--flagfile={path}"])
        return dataclasses.replace(
            config_lib.from_flags(values), seed=seed, **self.changes
        )

    def folder(self, workdir, seed):
        """Where a run of this row leaves its files."""
        return os.path.join(workdir, f"{self.name}-{seed}")

    @property
    def last_file(self):
        """What a finished run has in its folder, and no other."""
        return "report.json"


def define_flags(flag_values=flags.FLAGS):
    """Defines the flags of a program that trains the rows of a table."""
    program.define_data_flags(flag_values)
    program.define_device_flags(flag_values)
    flags.DEFINE_list(
        "rows",
        [],
        "Which rows to train, by their names; all if unset.",
        flag_values=flag_values,
    )
    flags.DEFINE_list(
        "seeds", ["1", "2", "3"], "One run of each.", flag_values=flag_values
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder for everything that this leaves behind.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "save_to",
        None,
        "A folder for results, tables and picture.",
        flag_values=flag_values,
    )


def wanted(rows, flag_values=flags.FLAGS):
    """The runs that the flags ask for.

    Args:
        rows: the rows that there are.

    Returns:
        A list of pairs of a `Row` and a seed, seed by seed.

    Raises:
        ValueError: a row that is not there, a seed that is no number, or no
            workdir.
    """
    names = [row.name for row in rows]
    for name in flag_values.rows:
        if name not in names:
            raise ValueError(
                f"Argument `rows` must be of {', '.join(names)}. "
                f"Received: {name}"
            )
    if not flag_values.workdir:
        raise ValueError("Argument `workdir` must name a folder.")
    if not all(seed.isdigit() for seed in flag_values.seeds):
        raise ValueError(
            "Argument `seeds` must be whole numbers with commas between. "
            f"Received: {','.join(flag_values.seeds)}"
        )
    return [
        (row, int(seed))
        for seed in flag_values.seeds
        for row in rows
        if row.name in (flag_values.rows or names)
    ]


def finished(rows, workdir):
    """The runs in a workdir that are finished.

    Args:
        rows: the rows that there are.
        workdir: the folder of the runs.

    Returns:
        A list of pairs of a `Row` and a seed, row by row.
    """
    return [
        (row, seed)
        for row in rows
        for seed in range(1000)
        if os.path.exists(
            os.path.join(row.folder(workdir, seed), row.last_file)
        )
    ]
