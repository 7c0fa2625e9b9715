r"""Asks for the sizes of the networks in table 1 of Louizos et al. (2018).

    python -m trainers.studies.mnist --workdir=runs/mnist --num_threads=1 \
        --manual_dir=MNIST --save_to=saved_models/mnist

trains LeNet-5 and a fully connected network on MNIST, asked for as many
parameters as the paper's have, and dense, each with several seeds, and shows
sizes and errors beside the paper's as a table and a picture. Nothing is
selected, so the test set is not used before the end of each run. With
`--save_to` the small files of each experiment go into a folder of its own
beside it, as by `trainers.studies.summary`. The same command goes on where it
was stopped; with `--rows` or `--seeds` several processes share the work.

    python -m trainers.studies.mnist --epochs=15 --finetune_epochs=25 ...

is the same in fewer epochs than the flagfiles', and makes no folders for them.
"""

import dataclasses
import os
import statistics

from absl import flags

from trainers.run import program
from trainers.run.tables import NAMES
from trainers.run.training import train
from trainers.studies import plots
from trainers.studies import study
from trainers.studies import summary

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Row(study.Row):
    """A line of the table, see `study.Row`.

    Args:
        paper: the units and the error of the paper, a string.
        dense: whether the network is trained without gates instead.
    """

    paper: str = "-"
    dense: bool = False

    def config(self, seed):
        config = super().config(seed)
        return config.without_sparsity() if self.dense else config


ROWS = (
    Row("lenet5", "LeNet-5, dense", "mnist_lenet5_l0_target", dense=True),
    Row(
        "lenet5_l0",
        "LeNet-5",
        "mnist_lenet5_l0_target",
        paper="20-25-45-462, 0.9 %",
    ),
    Row(
        "lenet5_l0_sep",
        "LeNet-5",
        "mnist_lenet5_l0_sep_target",
        paper="9-18-65-25, 1.0 %",
    ),
    Row("mlp", "784-300-100, dense", "mnist_mlp_l0_target", dense=True),
    Row(
        "mlp_l0",
        "784-300-100",
        "mnist_mlp_l0_target",
        paper="219-214-100, 1.4 %",
    ),
    Row(
        "mlp_l0_sep",
        "784-300-100",
        "mnist_mlp_l0_sep_target",
        paper="266-88-33, 1.8 %",
    ),
)


class Asked(study.Study):
    """Networks that are asked for sizes, beside those of papers.

    Args:
        name: see `study.Study`.
        rows: a tuple of `Row`.
        changes: a dict of settings that differ from the flagfiles.
    """

    goes_on = True

    def __init__(self, name="mnist", rows=ROWS, changes=None):
        changes = changes or {}
        rows = tuple(
            dataclasses.replace(row, changes={**row.changes, **changes})
            for row in rows
        )
        super().__init__(name, rows)
        # Cards are those of flagfiles.
        self.keeps = not changes

    def result(self, row, seed, folder, where):
        """See `Study.result`.

        Returns:
            Also `units` (the architecture that is left), `of` ("params" or
            "macs") and `asked`, a number (`None` of dense networks), `params`,
            `macs`, `bytes`, `epochs` and `seconds`.
        """
        report = train(row.config(seed), folder, **where)
        of, size = next(iter(report.get("targets", {}).items()), (None, {}))
        return {
            **study.of_report(row, seed, report),
            "of": of,
            "asked": size.get("asked"),
            "bytes": report["bytes"]["tflite"],
        }

    def tables(self, results):
        lines = [
            [
                "network",
                "paper",
                "asked",
                "parameters",
                "units left",
                "MACs",
                "LiteRT bytes",
                "epochs",
                "test error, median",
                "each seed",
            ]
        ]
        for row in self.rows:
            own = self.of_row(results, row)
            if not own:
                continue
            errors = [result["test_error"] for result in own]
            middle = self.median_run(results, row)
            asked = "-"
            if middle["asked"] is not None:
                name = NAMES[middle.get("of") or "params"]
                asked = f"{middle['asked']:,.0f} {name}"
            lines.append(
                [
                    row.title,
                    row.paper,
                    asked,
                    f"{middle['params']:,}",
                    middle["units"],
                    f"{middle['macs']:,}",
                    f"{middle['bytes']:,}",
                    f"{middle['epochs']}",
                    f"{statistics.median(errors):.2f} %",
                    ", ".join(
                        f"{result['test_error']:.2f} (seed {result['seed']})"
                        for result in own
                    ),
                ]
            )
        return [lines]

    def draw(self, results):
        titles = {
            row.name: row.title if row.dense else f"{row.title}, {row.paper}"
            for row in self.rows
        }
        return plots.sizes(results, titles)

    def run(self, flag_values=FLAGS):
        """See `Study.run`; also keeps the small files of each experiment."""
        results = super().run(flag_values)
        if flag_values.save_to and not flag_values.again and self.keeps:
            root = os.path.dirname(os.path.normpath(flag_values.save_to))
            self.keep(flag_values.workdir, results, root)
        return results

    def keep(self, workdir, results, root):
        """Leaves a folder with a card for each experiment.

        Args:
            workdir: the folder of the runs.
            results: what `collect` returns.
            root: the folder of all saved models.
        """
        for row in self.rows:
            if row.dense:
                continue
            folders = [
                row.folder(workdir, result["seed"])
                for result in self.of_row(results, row)
                # Others were made on another machine.
                if row.is_finished(workdir, result["seed"])
            ]
            if folders:
                folder = os.path.join(root, row.flagfile)
                summary.save(folders, summary.read(folders), folder)
        summary.write_again(root)


STUDY = Asked()


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    study.define_flags(flag_values)
    for name, text in (
        ("epochs", "Number of epochs in which gates learn"),
        ("finetune_epochs", "Number of epochs after the cut"),
    ):
        flags.DEFINE_integer(
            name,
            None,
            f"{text}; those of the flagfiles if unset.",
            lower_bound=1,
            flag_values=flag_values,
        )


def changes():
    """The settings that the flags change, a dict."""
    given = {name: FLAGS[name].value for name in ("epochs", "finetune_epochs")}
    return {name: value for name, value in given.items() if value}


def _study():
    return Asked(changes=changes())


main = study.main(_study)


if __name__ == "__main__":
    program.run(main, define_flags)
