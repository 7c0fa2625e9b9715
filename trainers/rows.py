"""The lines of a table that compares trainings."""

import dataclasses
import os

from absl import flags

from trainers import config as config_lib
from trainers import train as train_lib

EXPERIMENTS = os.path.join(os.path.dirname(__file__), "experiments")


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
