"""The frame of a study: many trainings in one table and one picture."""

import dataclasses
import json
import os
import pathlib

from absl import flags

from trainers.run import config as config_lib
from trainers.run import program
from trainers.run import tables
from trainers.run.workdir import RESULTS
from trainers.run.workdir import replacing
from trainers.run.workdir import write_results

FLAGS = flags.FLAGS
EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"
# Where data sets lie if nobody says so.
NOWHERE = {"data_dir": None, "manual_dir": None}
# Folders of so many seeds are looked for.
SEEDS = 1000


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: an experiment and its differences from a flagfile.

    Args:
        name: its name in flags and folders.
        title: its name in the table.
        flagfile: the name of the experiment.
        changes: a dict of settings that differ from the flagfile.
    """

    name: str
    title: str
    flagfile: str
    changes: dict = dataclasses.field(default_factory=dict)

    def config(self, seed):
        """The `Config` of a run."""
        values = flags.FlagValues()
        config_lib.define_flags(values)
        values(["train", f"--flagfile={EXPERIMENTS / self.flagfile}.flags"])
        return dataclasses.replace(
            config_lib.from_flags(values), seed=seed, **self.changes
        )

    def folder(self, workdir, seed):
        """The folder of a run of this row."""
        return os.path.join(workdir, f"{self.name}-{seed}")

    @property
    def last_file(self):
        """A file that a finished run has in its folder, and no other run."""
        return "report.json"

    def is_finished(self, workdir, seed):
        """Whether a run has come to its end."""
        return os.path.exists(
            os.path.join(self.folder(workdir, seed), self.last_file)
        )


class Study:
    """Trainings beside each other; a subclass says how to show them.

    Args:
        name: the name of the picture's file.
        rows: a tuple of `Row`.

    Attributes:
        has_seeds: whether each row is trained with several seeds.
        goes_on: whether saved results count as finished runs, so that a study
            of many days can go on where its workdir is not. They have to be
            removed by hand if the trainings change.
    """

    has_seeds = True
    goes_on = False

    def __init__(self, name, rows):
        self.name = name
        self.rows = rows

    # === The parts of a study ===

    def result(self, row, seed, folder, where):
        """Trains one row with one seed, or reads the result that is there.

        Args:
            row: a `Row`.
            seed: an integer; `None` without `has_seeds`.
            folder: the folder of the run.
            where: `data_dir` and `manual_dir`, see `input_pipeline.load`.

        Returns:
            A dict for JSON with `name`, `seed` and, in percent, `test_error`,
            or `validation_error` where a study chooses among its rows.
        """
        raise NotImplementedError

    def finish(self, results, workdir):
        """Adds the measurements that need all runs to their results."""
        del workdir
        return results

    def tables(self, results):
        """The tables, a list of lists of rows; the first rows are titles."""
        raise NotImplementedError

    def draw(self, results):
        """The picture, a matplotlib figure."""
        raise NotImplementedError

    # === The frame ===

    def of_row(self, results, row):
        """The results of a row, seed by seed."""
        return [result for result in results if result["name"] == row.name]

    def median_run(self, results, row):
        """The result of a row with the median error, `None` without any."""
        own = self.of_row(results, row)
        error = "test_error"
        return tables.median_run(own, lambda run: run[error]) if own else None

    def wanted(self, names, seeds):
        """The runs that somebody asks for.

        Args:
            names: names of rows, all if empty.
            seeds: strings; not used without `has_seeds`.

        Returns:
            A list of pairs of a `Row` and a seed, seed by seed.

        Raises:
            ValueError: a row that is not there or a seed that is no number.
        """
        known = [row.name for row in self.rows]
        for name in names:
            if name not in known:
                raise ValueError(
                    f"Argument `rows` must be of {', '.join(known)}. "
                    f"Received: {name}"
                )
        rows = [row for row in self.rows if row.name in (names or known)]
        if not self.has_seeds:
            return [(row, None) for row in rows]
        if not all(seed.isdigit() and int(seed) < SEEDS for seed in seeds):
            raise ValueError(
                f"Argument `seeds` must be whole numbers below {SEEDS} with "
                f"commas between. Received: {','.join(seeds)}"
            )
        return [(row, int(seed)) for seed in seeds for row in rows]

    def collect(self, workdir, where=None):
        """The results of all finished runs in a workdir, row by row.

        Args:
            workdir: the folder of the runs, also of other processes.
            where: see `result`.

        Raises:
            ValueError: the folder of a run is one of other settings.
        """
        where = where or NOWHERE
        results = [
            self.result(row, seed, row.folder(workdir, seed), where)
            for row in self.rows
            for seed in (range(SEEDS) if self.has_seeds else [None])
            if row.is_finished(workdir, seed)
        ]
        return self.finish(results, workdir)

    def markdown(self, results):
        """All tables of the study for a page."""
        parts = [tables.markdown(one) for one in self.tables(results) if one]
        return "\n\n".join(parts) + "\n"

    def save(self, results, folder):
        """Leaves results, tables and picture in a folder."""
        write_results(folder, results, self.markdown(results))
        with replacing(os.path.join(folder, f"{self.name}.png")) as path:
            self.draw(results).savefig(path, dpi=150)

    def again(self, folder):
        """Makes tables and picture of saved results again, and nothing else.

        Args:
            folder: a folder that `save` has filled.

        Returns:
            The results.

        Raises:
            ValueError: no results in the folder.
        """
        path = os.path.join(folder, RESULTS)
        if not os.path.exists(path):
            raise ValueError(
                "Argument `again` must be a folder with saved results. "
                f"Received: again={folder}, without {RESULTS}"
            )
        with open(path) as file:
            results = json.load(file)
        self.save(results, folder)
        return results

    def run(self, flag_values=FLAGS):
        """Follows the flags; returns the results."""
        if flag_values.again:
            return self.again(flag_values.again)
        if not flag_values.workdir:
            raise ValueError(
                "Argument `workdir` must name a folder. Received: none"
            )
        program.set_up(flag_values.num_threads)
        where = {
            "data_dir": flag_values.data_dir,
            "manual_dir": flag_values.manual_dir,
        }
        seeds = flag_values.seeds if self.has_seeds else []
        save_to = flag_values.save_to or flag_values.workdir
        saved = self._saved(save_to) if self.goes_on else {}
        for row, seed in self.wanted(flag_values.rows, seeds):
            if (row.name, seed) in saved:
                continue
            title = f"{row.title}, seed {seed}" if seeds else row.title
            print(title, flush=True)
            folder = row.folder(flag_values.workdir, seed)
            found = self.result(row, seed, folder, where)
            print(f"{title}: {_error(found)}")
        # A folder of another row may be one of other settings.
        results = self.collect(flag_values.workdir, where)
        if self.goes_on:
            # Another process may have saved more by now.
            found = self._saved(save_to) | _by_run(results)
            results = [
                result
                for row in self.rows
                for result in self.of_row(found.values(), row)
            ]
        self.save(results, save_to)
        return results

    def _saved(self, folder):
        """The results in a folder, by row and seed; none without the file."""
        path = os.path.join(folder, RESULTS)
        if not os.path.exists(path):
            return {}
        with open(path) as file:
            return _by_run(json.load(file))


def _by_run(results):
    return {(result["name"], result["seed"]): result for result in results}


def _error(result):
    if "test_error" in result:
        return f"test error {result['test_error']:.2f} %"
    return f"error on held-out examples {result['validation_error']:.2f} %"


def of_report(row, seed, report):
    """What a table of networks says of a run, a dict for `Study.result`.

    Args:
        row: a `Row`.
        seed: an integer.
        report: what `training.train` returns.
    """
    return {
        "name": row.name,
        "seed": seed,
        "test_error": report["test_error"]["stripped"],
        "units": report["units"]["stripped"],
        "params": report["params"]["stripped"],
        "macs": report["macs"]["stripped"],
        "epochs": report["epochs"],
        "seconds": report["seconds"],
    }


def define_networks(known, flag_values=FLAGS, default=None):
    """Defines a flag for some of a study's networks.

    Args:
        known: their names, an iterable.
        flag_values: where to define it.
        default: the names if the flag is unset; all by default.
    """
    flags.DEFINE_list(
        "networks",
        list(default or known),
        f"Networks to train, of {', '.join(known)}, with commas between.",
        flag_values=flag_values,
    )
    flags.register_validator(
        "networks",
        lambda names: set(names) <= set(known),
        f"must be of {', '.join(known)}",
        flag_values=flag_values,
    )


def define_flags(flag_values=FLAGS, has_seeds=True):
    """Defines the flags that all studies have, or all studies with seeds."""
    program.define_data_flags(flag_values)
    program.define_device_flags(flag_values)
    flags.DEFINE_list(
        "rows",
        [],
        "Rows to train, by their names with commas between; all if unset.",
        flag_values=flag_values,
    )
    if has_seeds:
        flags.DEFINE_list(
            "seeds",
            ["1", "2", "3"],
            "Seeds of the runs of each row, with commas between.",
            flag_values=flag_values,
        )
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder for all files of the runs.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "save_to",
        None,
        "Folder for results, tables and picture; the workdir if unset.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "again",
        None,
        "Folder of saved results whose tables and picture to make again, "
        "without any training.",
        flag_values=flag_values,
    )


def main(study_of, errors=()):
    """The `main` of a study's program, for `program.run`.

    Args:
        study_of: a function without arguments that returns the `Study`.
        errors: see `program.main`.
    """

    @program.main(errors=errors, resumes=True)
    def main():
        study = study_of()
        print(study.markdown(study.run()))

    return main
