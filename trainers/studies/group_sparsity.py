r"""Compares ways to few groups of weights.

    python -m trainers.studies.group_sparsity --workdir=runs/group_sparsity \
        --data_dir=DATA --manual_dir=MNIST

trains LeNet-5 on MNIST by WGSEF and by the group lasso, with proximal steps,
half-space steps and with exactly k groups in the end, each with several seeds,
and shows errors, sizes, latencies and the groups that are left as tables and a
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
from trainers.run.workdir import replacing
from trainers.run.workdir import write_json
from trainers.studies import group_sparsity_plot
from trainers.studies import rows as rows_lib
from trainers.studies.rows import Row

FLAGS = flags.FLAGS


# What settings of groups are where there are none.
PLAIN = {
    name: getattr(Config, name)
    for name in ("group_lambda", "k", "epsilon", "switch_at")
}


def _rows(flagfile, lasso, gates, epochs, finetune_epochs):
    """The rows of an experiment whose flagfile is the full recipe.

    Args:
        flagfile: a name.
        lasso: the strength of the group lasso, `Config.group_lambda`. Its
            penalty is linear in the weights, so those of the envelope mean
            something else.
        gates: the settings of gates that leave about as many parameters.
        epochs, finetune_epochs: those of the flagfile.
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


def result_of(row, seed, workdir, data_dir=None, manual_dir=None):
    """Trains one row with one seed, or reads what is there already.

    Args:
        row: a `Row`.
        seed: an integer.
        workdir: a folder; the run has one of its own in it.
        data_dir, manual_dir: see `input_pipeline.load`.

    Returns:
        A dict with `name`, `seed`, `test_error` in percent, `units` (the
        architecture that is left), `params`, `macs`, `bytes` and `latency_us`
        (pairs: of the dense network and of what is left), and `groups`, see
        `ProximalSGD.zero_groups`.
    """
    report = train(
        row.config(seed),
        row.folder(workdir, seed),
        data_dir=data_dir,
        manual_dir=manual_dir,
    )
    return {
        "name": row.name,
        "seed": seed,
        "test_error": report["test_error"]["stripped"],
        "units": report["units"]["stripped"],
        "params": [report["params"][s] for s in ("dense", "stripped")],
        "macs": [report["macs"][s] for s in ("dense", "stripped")],
        "bytes": [report["bytes"][s] for s in ("dense", "tflite")],
        "latency_us": [report["latency_us"][s] for s in ("dense", "tflite")],
        "groups": report.get("groups", []),
    }


def collect(rows, workdir):
    """The results of all runs in a workdir that are finished."""
    runs = rows_lib.finished(rows, workdir)
    return [result_of(row, seed, workdir) for row, seed in runs]


def timed(rows, results, workdir):
    """Results with the latencies of their files, run in turns.

    Those of the trainings are of different times, when the machine was more
    or less busy.

    Args:
        rows: the rows of the results.
        results: what `collect` returns.
        workdir: the folder of the runs.

    Returns:
        The same, with `latency_us` in comparison with the median of the dense
        networks; as they are where there is none.
    """
    if not any(result["name"] == "dense" for result in results):
        return results
    folders = {row.name: row.folder for row in rows}
    times = l0keras.export.measure_latency(
        [
            os.path.join(folders[r["name"]](workdir, r["seed"]), "model.tflite")
            for r in results
        ]
    )
    dense = statistics.median(
        own for r, own in zip(results, times) if r["name"] == "dense"
    )
    return [
        {**result, "latency_us": [dense, own]}
        for result, own in zip(results, times)
    ]


def median_run(results, name):
    """The run of a row whose error is the median, `None` without any."""
    own = [result for result in results if result["name"] == name]
    own.sort(key=lambda result: result["test_error"])
    return own[len(own) // 2] if own else None


def table(rows, results):
    """A Markdown table, of the median run of each row.

    Args:
        rows: a tuple of `Row`.
        results: a list of dicts, as `result_of` returns them.
    """
    lines = [
        "| method | test error, each seed | units left | compression | "
        "MACs left | LiteRT bytes | latency us | times faster |",
        "| --- " * 8 + "|",
    ]
    for row in rows:
        own = [result for result in results if result["name"] == row.name]
        if not own:
            continue
        errors = [result["test_error"] for result in own]
        middle = median_run(results, row.name)
        (_, left), (dense, macs) = middle["params"], middle["macs"]
        before, after = middle["latency_us"]
        each = ", ".join(f"{error:.2f}" for error in errors)
        cells = [
            row.title,
            f"{statistics.median(errors):.2f} % ({each})",
            middle["units"],
            f"{middle['params'][0] / left:.1f}x",
            f"{100 * macs / dense:.1f} %",
            f"{middle['bytes'][1]:,}",
            f"{after:.1f}",
            f"{before / after:.1f}x",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def group_table(rows, results):
    """What was asked for and what was left, layer by layer, in Markdown.

    Of the median run of each row: how many groups of each layer were kept and
    how many were asked for, and how many of all layers became 0 in which
    stage.
    """
    shown = [(row, median_run(results, row.name)) for row in rows]
    shown = [
        (row, run["groups"]) for row, run in shown if run and run["groups"]
    ]
    if not shown:
        return ""
    names = [f"{one['name']} ({one['groups']})" for one in shown[0][1]]
    stages = {
        "prox": "zero by prox",
        "half_space": "by half-space steps",
        "top_k": "by the choice of k",
    }
    header = ["kept / asked for", *names, *stages.values()]
    lines = [f"| {' | '.join(header)} |", "| --- " * len(header) + "|"]
    for row, groups in shown:
        cells = [row.title]
        for one in groups:
            asked = "-" if one["asked"] is None else one["asked"]
            cells.append(f"{one['kept']} / {asked}")
        for stage in stages:
            cells.append(f"{sum(one[stage] for one in groups)}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def save(rows, results, folder):
    """Leaves results, tables and picture in a folder."""
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, "results.json"), results)
    with replacing(os.path.join(folder, "table.md")) as path:
        with open(path, "w") as file:
            file.write(
                f"{table(rows, results)}\n\n{group_table(rows, results)}\n"
            )
    with replacing(os.path.join(folder, "group_sparsity.png")) as path:
        titles = {row.name: row.title for row in rows}
        figure = group_sparsity_plot.draw(results, titles)
        figure.savefig(path, dpi=150)


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    rows_lib.define_flags(flag_values)
    flags.DEFINE_string(
        "experiment",
        "lenet5",
        f"One of {', '.join(EXPERIMENTS)}.",
        flag_values=flag_values,
    )


def main(argv):
    with program.exits():
        program.start(argv)
        program.set_up(FLAGS.num_threads)
        if FLAGS.experiment not in EXPERIMENTS:
            raise ValueError(
                f"Argument `experiment` must be of {', '.join(EXPERIMENTS)}. "
                f"Received: {FLAGS.experiment}"
            )
        rows = EXPERIMENTS[FLAGS.experiment]
        for row, seed in rows_lib.wanted(rows, FLAGS):
            print(f"{row.title}, seed {seed}", flush=True)
            result_of(
                row, seed, FLAGS.workdir, FLAGS.data_dir, FLAGS.manual_dir
            )
        # A folder of another row may be one of other settings.
        results = timed(rows, collect(rows, FLAGS.workdir), FLAGS.workdir)
    save(rows, results, FLAGS.save_to or FLAGS.workdir)
    print(f"{table(rows, results)}\n\n{group_table(rows, results)}")


def run():
    """The console command."""
    program.run(main, define_flags)


if __name__ == "__main__":
    run()
