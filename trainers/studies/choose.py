r"""Chooses settings of an experiment on held-out examples, and tests the best.

    python -m trainers.studies.choose --workdir=runs/choose --manual_dir=MNIST \
        --flagfile=trainers/experiments/mnist_lenet5_wgsef.flags \
        --choices='group_lambda=0.001;0.003;0.01' \
        --choices='k=0.2;0.25,0.32,0.1' --most_macs=0.1

trains all combinations of the choices with several seeds, on a part of the
training examples (`--validation_examples`), and measures their errors on the
other part. The combination with the smallest mean error, among those that are
small enough where `--most_macs` or `--most_params` say so, is then trained on
all training examples with each seed: the test set is for these runs alone. The
same command goes on where it was stopped; with `--rows` or `--seeds` several
processes share the work.
"""

import dataclasses
import itertools
import statistics

from absl import flags

from trainers.run import config as config_lib
from trainers.run import program
from trainers.run.training import train
from trainers.studies import plots
from trainers.studies import study

FLAGS = flags.FLAGS
SIZES = ("params", "macs")


@dataclasses.dataclass(frozen=True)
class Row(study.Row):
    """A combination of choices, see `study.Row`.

    Args:
        base: the `Config` whose settings are chosen among.
    """

    flagfile: str = ""
    base: config_lib.Config | None = None

    def config(self, seed):
        return dataclasses.replace(self.base, seed=seed, **self.changes)

    def test_folder(self, workdir, seed):
        """The folder of the run on all training examples."""
        return f"{self.folder(workdir, seed)}-test"


def rows_of(base, choices):
    """All combinations of choices.

    Args:
        base: a `Config`.
        choices: a dict from names of settings to lists of values.

    Returns:
        A tuple of `Row`.

    Raises:
        ValueError: no choices, or a setting that is out of its range.
    """
    if not choices:
        raise ValueError(
            "Argument `choices` must name a setting and its values, as in "
            "--choices='learning_rate=0.01;0.1'. Received: none"
        )
    rows = []
    for values in itertools.product(*choices.values()):
        changes = dict(zip(choices, values))
        title = ", ".join(f"{n}={_written(v)}" for n, v in changes.items())
        name = title.replace(", ", "_").replace(",", "-")
        row = Row(name, title, changes=changes, base=base)
        # An error comes before the first training.
        row.config(0)
        rows.append(row)
    return tuple(rows)


def parse(texts):
    """The choices that flags name.

    Args:
        texts: a list of strings, `name=value;value`.

    Returns:
        A dict from names of settings to lists of values.

    Raises:
        ValueError: not a setting, or no values.
    """
    fields = [field.name for field in dataclasses.fields(config_lib.Config)]
    found = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in fields or name == "seed" or not values:
            raise ValueError(
                "Argument `choices` must be a setting, =, and values with ; "
                f"between. Received: choices={text}"
            )
        found[name] = [_value(name, value) for value in values.split(";")]
    return found


def _value(name, text):
    own = flags.FlagValues()
    config_lib.define_flags(own)
    try:
        own(["choose", f"--{name}={text}"])
    except flags.Error as error:
        raise ValueError(
            f"Argument `choices` must have values of `{name}`. "
            f"Received: choices={name}={text} ({error})"
        ) from None
    return config_lib.value_of(name, own)


def _written(value):
    if isinstance(value, tuple):
        return ",".join(f"{entry:g}" for entry in value)
    return f"{value:g}" if isinstance(value, float) else f"{value}"


class Choice(study.Study):
    """Combinations of settings, and the best of them.

    Args:
        rows: a tuple of `Row`.
        most: a dict from "macs" or "params" to what a chosen network may have
            on average over the seeds, up to 1 a share of the dense one's.

    Raises:
        ValueError: the rows hold no examples out.
    """

    def __init__(self, rows, most=None):
        super().__init__("choose", rows)
        self.most = most or {}
        for row in rows:
            if not row.config(0).validation_examples:
                raise ValueError(
                    "Argument `validation_examples` must be above 0: choices "
                    "are made by the errors of held-out examples. Received: "
                    "validation_examples=0"
                )

    def result(self, row, seed, folder, where):
        """See `Study.result`; the error is that of held-out examples.

        Returns:
            Also `params` and `macs`: pairs, of the dense and of the stripped
            network.
        """
        report = train(row.config(seed), folder, held_out=True, **where)
        return _result(row, report, "validation_error")

    def collect(self, workdir, where=None):
        """See `Study.collect`; also trains and tests what is chosen."""
        where = where or study.NOWHERE
        results = super().collect(workdir, where)
        best = self.chosen(results)
        tested = []
        for result in self.of_row(results, best) if best else []:
            seed = result["seed"]
            config = dataclasses.replace(
                best.config(seed), validation_examples=0, patience=0
            )
            report = train(config, best.test_folder(workdir, seed), **where)
            tested.append(_result(best, report, "test_error"))
        return results + tested

    def chosen(self, results):
        """The row with the smallest mean error that is small enough.

        Args:
            results: a list of dicts.

        Returns:
            A `Row`, or `None` as long as a row lacks a seed that another one
            has, and where none is small enough.
        """
        own = [
            [
                result
                for result in self.of_row(results, row)
                if "validation_error" in result
            ]
            for row in self.rows
        ]
        seeds = {tuple(run["seed"] for run in runs) for runs in own}
        if len(seeds) != 1 or seeds == {()}:
            return None
        errors = [
            (_mean(runs, "validation_error"), index)
            for index, runs in enumerate(own)
            if self._fits(runs)
        ]
        return self.rows[min(errors)[1]] if errors else None

    def _fits(self, runs):
        for of, most in self.most.items():
            dense, left = (
                statistics.mean(run[of][index] for run in runs)
                for index in (0, 1)
            )
            if left > (most if most > 1 else most * dense):
                return False
        return True

    def tables(self, results):
        lines = [
            [
                "settings",
                "examples",
                "error, mean",
                "each seed",
                "parameters",
                "MACs",
            ]
        ]
        for row in self.rows:
            for kind, examples in (
                ("validation_error", "held out"),
                ("test_error", "test"),
            ):
                own = [r for r in self.of_row(results, row) if kind in r]
                if own:
                    lines.append([row.title, examples, *_cells(own, kind)])
        return [lines]

    def draw(self, results):
        titles = {row.name: row.title for row in self.rows}
        shown = [
            {**result, "params": result["params"][1]}
            for result in results
            if "validation_error" in result
        ]
        return plots.sizes(shown, titles, "validation_error")


def _result(row, report, kind):
    return {
        "name": row.name,
        "seed": report["seed"],
        kind: report["test_error"]["stripped"],
        **{of: [report[of]["dense"], report[of]["stripped"]] for of in SIZES},
    }


def _mean(runs, name):
    return statistics.mean(run[name] for run in runs)


def _cells(runs, kind):
    each = ", ".join(f"{run[kind]:.2f} (seed {run['seed']})" for run in runs)
    sizes = [statistics.mean(run[of][1] for run in runs) for of in SIZES]
    return [f"{_mean(runs, kind):.2f} %", each, *(f"{s:,.0f}" for s in sizes)]


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    study.define_flags(flag_values)
    config_lib.define_flags(flag_values)
    # So that nobody chooses by the test set unawares.
    flag_values.set_default("validation_examples", 10_000)
    flags.DEFINE_multi_string(
        "choices",
        [],
        "Setting and its values, name=value;value in quotes; several times for "
        "several settings.",
        flag_values=flag_values,
    )
    for of, what in (("macs", "multiply-accumulates"), ("params", "weights")):
        flags.DEFINE_float(
            f"most_{of}",
            0.0,
            f"Most {what} that a chosen network may have: up to 1 a share of "
            "the dense one's, above 1 a number; 0 for any.",
            lower_bound=0.0,
            flag_values=flag_values,
        )


def _study():
    base = config_lib.from_flags()
    if FLAGS.again:
        raise ValueError(
            "Argument `again` must be unset: the same command with a workdir "
            f"shows a finished study. Received: again={FLAGS.again}"
        )
    most = {of: getattr(FLAGS, f"most_{of}") for of in SIZES}
    return Choice(
        rows_of(base, parse(FLAGS.choices)),
        {of: number for of, number in most.items() if number},
    )


main = study.main(_study)


if __name__ == "__main__":
    program.run(main, define_flags)
