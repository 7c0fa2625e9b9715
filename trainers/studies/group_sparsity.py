r"""Compares ways to few groups of weights.

    python -m trainers.studies.group_sparsity --workdir=runs/group_sparsity \
        --data_dir=DATA --manual_dir=MNIST

trains LeNet-5 on MNIST by WGSEF and by the group lasso, with proximal steps,
half-space steps and with exactly k groups in the end, each with several seeds,
and shows errors, sizes, speeds and the groups that are left as tables and a
picture. Each run has a folder of its own, as `trainers.train` leaves it. The
same command goes on where it was stopped; with `--rows` or `--seeds` several
processes share the work.
"""

import os
import statistics

from absl import flags

import l0keras
from trainers.run import program
from trainers.run.config import Config
from trainers.run.training import train
from trainers.studies import plots
from trainers.studies import study
from trainers.studies.study import Row

FLAGS = flags.FLAGS
STAGES = {
    "prox": "zero by prox",
    "half_space": "by half-space steps",
    "top_k": "by the choice of k",
}
# Settings of groups for rows without any.
PLAIN = {
    name: getattr(Config, name)
    for name in ("group_lambda", "k", "epsilon", "switch_at")
}


def _rows(flagfile, lasso, gates, epochs, finetune_epochs):
    """The rows of an experiment whose flagfile is the full recipe.

    Args:
        flagfile: the name of the experiment.
        lasso: the strength of the group lasso, `group_lambda`. Its penalty is
            linear in the weights, so the strengths of the envelope mean
            something else.
        gates: the settings of gates that leave about as many parameters.
        epochs, finetune_epochs: the numbers of epochs in the flagfile.
    """
    straight = {"finetune_epochs": 0, "epochs": epochs + finetune_epochs}
    lasso = {"method": "hspg", "group_lambda": lasso}
    proximal = {"switch_at": PLAIN["switch_at"], "epsilon": PLAIN["epsilon"]}
    return (
        Row("wgsef_k", "WGSEF, half-space steps, exactly k", flagfile),
        Row(
            "hspg_k",
            "group lasso, half-space steps, exactly k",
            flagfile,
            lasso,
        ),
        Row(
            "norms_k",
            "no penalty, exactly k",
            flagfile,
            {"method": "group_lasso", "group_lambda": (0.0,), **proximal},
        ),
        Row("l0", "gates (L0)", flagfile, {**PLAIN, **gates}),
        Row("wgsef", "WGSEF, half-space steps", flagfile, straight),
        Row(
            "wgsef_prox",
            "WGSEF, proximal steps",
            flagfile,
            {**straight, "switch_at": 1.0, "epsilon": PLAIN["epsilon"]},
        ),
        Row(
            "hspg",
            "group lasso, half-space steps",
            flagfile,
            {**lasso, "k": PLAIN["k"], **straight},
        ),
        Row(
            "group_lasso",
            "group lasso, proximal steps",
            flagfile,
            {
                **lasso,
                "method": "group_lasso",
                "k": PLAIN["k"],
                **proximal,
                **straight,
            },
        ),
        Row(
            "dense", "dense", flagfile, {"method": "dense", **PLAIN, **straight}
        ),
    )


EXPERIMENTS = {
    "lenet5": _rows(
        "mnist_lenet5_wgsef",
        lasso=(8e-4, 2.5e-4, 1.5e-4),
        gates={
            "method": "l0",
            "l0_lambda": (24.0, 1.0, 0.055, 3.0),
            "gate_learning_rate": 0.02,
        },
        epochs=8,
        finetune_epochs=6,
    ),
    "vgg7": _rows(
        "fashion_mnist_vgg7_wgsef",
        lasso=(1e-3, 1e-3, 6e-4, 6e-4, 3e-4, 3e-4),
        gates={
            "method": "dep_l0",
            "cost": "macs",
            "l0_lambda": (1.6e-6,),
            "gate_learning_rate": 0.02,
        },
        epochs=4,
        finetune_epochs=2,
    ),
}


class GroupStudy(study.Study):
    """Ways to few groups of weights."""

    def result(self, row, seed, folder, where):
        """See `Study.result`.

        Returns:
            Also `units` (the architecture that is left), `params`, `macs`,
            `bytes` and `latency_us` (pairs: of the dense network and of the
            stripped one), and `groups`, see `ProximalSGD.zero_groups`.
        """
        report = train(row.config(seed), folder, **where)
        models, files = ("dense", "stripped"), ("dense", "tflite")
        return {
            "name": row.name,
            "seed": seed,
            "test_error": report["test_error"]["stripped"],
            "units": report["units"]["stripped"],
            "params": [report["params"][stage] for stage in models],
            "macs": [report["macs"][stage] for stage in models],
            "bytes": [report["bytes"][stage] for stage in files],
            "latency_us": [report["latency_us"][stage] for stage in files],
            "groups": report.get("groups", []),
        }

    def finish(self, results, workdir):
        """Measures the latencies of all files again, in turns.

        The latencies in the reports were measured at different times, when
        the machine was more or less busy. They stay where no dense network
        is there to compare with.
        """
        if not any(result["name"] == "dense" for result in results):
            return results
        folders = {row.name: row.folder for row in self.rows}
        times = l0keras.export.measure_latency(
            [
                os.path.join(
                    folders[run["name"]](workdir, run["seed"]), "model.tflite"
                )
                for run in results
            ]
        )
        dense = statistics.median(
            own for run, own in zip(results, times) if run["name"] == "dense"
        )
        return [
            {**run, "latency_us": [dense, own]}
            for run, own in zip(results, times)
        ]

    def tables(self, results):
        return [self._sizes(results), self._groups(results)]

    def _sizes(self, results):
        lines = [
            [
                "method",
                "test error, each seed",
                "units left",
                "compression",
                "MACs left",
                "LiteRT bytes",
                "times faster than dense, same run",
            ]
        ]
        for row in self.rows:
            own = self.of_row(results, row)
            if not own:
                continue
            errors = [result["test_error"] for result in own]
            each = ", ".join(f"{error:.2f}" for error in errors)
            middle = self.median_run(results, row)
            (params, left), (macs, few) = middle["params"], middle["macs"]
            before, after = middle["latency_us"]
            lines.append(
                [
                    row.title,
                    f"{statistics.median(errors):.2f} % ({each})",
                    middle["units"],
                    f"{params / left:.1f}x",
                    f"{100 * few / macs:.1f} %",
                    f"{middle['bytes'][1]:,}",
                    f"{before / after:.1f}x",
                ]
            )
        return lines

    def _groups(self, results):
        """Groups of each layer that were kept and asked for, and zeros.

        The numbers are those of the median run of each row; zeros are counted
        over all layers, by the stage that made them.
        """
        shown = [(row, self.median_run(results, row)) for row in self.rows]
        shown = [
            (row, run["groups"]) for row, run in shown if run and run["groups"]
        ]
        if not shown:
            return []
        names = [f"{one['name']} ({one['groups']})" for one in shown[0][1]]
        lines = [["kept / asked for", *names, *STAGES.values()]]
        for row, groups in shown:
            cells = [row.title]
            for one in groups:
                asked = "-" if one["asked"] is None else one["asked"]
                cells.append(f"{one['kept']} / {asked}")
            for stage in STAGES:
                cells.append(f"{sum(one[stage] for one in groups)}")
            lines.append(cells)
        return lines

    def draw(self, results):
        titles = {row.name: row.title for row in self.rows}
        return plots.groups(results, titles)


STUDIES = {
    name: GroupStudy("group_sparsity", rows)
    for name, rows in EXPERIMENTS.items()
}


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    study.define_flags(flag_values)
    flags.DEFINE_string(
        "experiment",
        "lenet5",
        "Network and data of the rows: lenet5 on MNIST or vgg7 on "
        "Fashion-MNIST.",
        flag_values=flag_values,
    )


def _study():
    if FLAGS.experiment not in STUDIES:
        raise ValueError(
            f"Argument `experiment` must be of {', '.join(STUDIES)}. "
            f"Received: {FLAGS.experiment}"
        )
    return STUDIES[FLAGS.experiment]


main = study.main(_study)


if __name__ == "__main__":
    program.run(main, define_flags)
