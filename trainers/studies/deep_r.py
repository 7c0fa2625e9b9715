r"""Compares DEEP R with other ways to few connections.

    python -m trainers.studies.deep_r --workdir=runs/deep_r --num_threads=1 \
        --data_dir=DATA --manual_dir=MNIST

trains a fully connected network on MNIST with 1 % and 0.5 % of its
connections, by DEEP R, soft-DEEP R, a random mask that stays, shrinkage by L1
and magnitude pruning, and an LSTM that reads MNIST row by row with 1, 5, 10
and 100 %, each with several seeds, and shows accuracies, connections, bytes and
speeds as a table and a picture. Each run has a folder of its own, as
`trainers.train` leaves it. The same command goes on where it was stopped;
with `--rows` or `--seeds` several processes share the work.
"""

import dataclasses
import json
import os
import statistics

import keras
from absl import flags

import l0keras
from trainers.data import input_pipeline
from trainers.run import config as config_lib
from trainers.run import networks
from trainers.run import program
from trainers.run.finetune import prune
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict
from trainers.run.results import connections_of
from trainers.run.results import kernel_sizes
from trainers.run.training import train
from trainers.run.workdir import Workdir
from trainers.run.workdir import write_json
from trainers.studies import plots
from trainers.studies import study

STAGES = ("tflite", "tflite_sparse")
# The settings of sparse connections, for runs that have none.
_DEFAULTS = {
    name: getattr(config_lib.Config, name)
    for name in ("connectivity", "l1", "temperature", "budget")
}


@dataclasses.dataclass(frozen=True)
class Row(study.Row):
    """A line of the table, see `study.Row`.

    Args:
        pruned: the share of connections to leave by magnitude pruning,
            instead of a training by `changes` alone.
    """

    flagfile: str = "mnist_mlp_deep_r"
    pruned: float | None = None

    @property
    def last_file(self):
        return "pruned.json" if self.pruned else "report.json"


def _dense(**changes):
    return {"method": "dense", **_DEFAULTS, **changes}


# The learning rate of few connections would let all of them diverge.
_SLOW = {"learning_rate": 0.05}
# Shares of the kernel, the recurrent kernel and the output's kernel: 811, 4,058
# and 8,115 of 81,152 connections. With the same share of each, the ten outputs
# would have a connection or two of their own.
_LSTM_SHARES = {
    1: (250 / 14_336, 361 / 65_536, 200 / 1280),
    5: (1300 / 14_336, 2158 / 65_536, 600 / 1280),
    10: (2600 / 14_336, 4515 / 65_536, 1000 / 1280),
}
ROWS = (
    Row("deep_r", "DEEP R, 1 %"),
    Row(
        "deep_r_paper_rate",
        "DEEP R, 1 %, the paper's learning rate",
        changes={"learning_rate": 0.05, "lr_boundaries": (), "l1": 1e-4},
    ),
    Row(
        "deep_r_half",
        "DEEP R, 0.5 %",
        changes={"connectivity": (0.00332, 0.01, 0.25)},
    ),
    Row(
        "soft_deep_r",
        "soft-DEEP R",
        changes={"method": "soft_deep_r", "l1": 5e-4},
    ),
    Row(
        "static",
        "random mask, 1 %",
        changes={"method": "static", "l1": _DEFAULTS["l1"]},
    ),
    Row(
        "l1",
        "L1 shrinkage",
        changes={
            "method": "l1",
            "connectivity": _DEFAULTS["connectivity"],
            "l1": 3e-3,
            **_SLOW,
        },
    ),
    Row(
        "pruned",
        "magnitude pruning (tfmot), 1 %",
        changes=_dense(**_SLOW),
        pruned=0.01,
    ),
    Row("dense", "dense", changes=_dense(**_SLOW)),
    *(
        Row(
            f"lstm_{percent}",
            f"row-MNIST LSTM, DEEP R, {percent} %",
            "mnist_lstm_deep_r",
            {"connectivity": shares},
        )
        for percent, shares in _LSTM_SHARES.items()
    ),
    Row(
        "lstm_dense",
        "row-MNIST LSTM, dense",
        "mnist_lstm_deep_r",
        _dense(),
    ),
)


class DeepRStudy(study.Study):
    """DEEP R beside other ways to few connections."""

    def result(self, row, seed, folder, where):
        """See `Study.result`.

        Returns:
            Also `connections` and `potential`, and `bytes` and `latency_us`
            (dicts over the stages `dense`, `tflite` and `tflite_sparse`, as
            far as the run has them). All latencies of a run are measured in
            turns.
        """
        config = row.config(seed)
        if row.pruned:
            return _pruned(row, config, folder, where)
        report = train(config, folder, **where)
        found = {
            "name": row.name,
            "seed": seed,
            "test_error": report["test_error"]["stripped"],
            "bytes": report["bytes"],
            "latency_us": report["latency_us"],
            "epochs": report["epochs"],
        }
        if "connections" in report:
            counts = report["connections"]
            found["connections"] = counts["sparse"]
            found["potential"] = counts["potential"]
        else:
            path = os.path.join(folder, "model.keras")
            model = keras.saving.load_model(path)
            found["potential"] = sum(kernel_sizes(model).values())
            found["connections"] = found["potential"]
        return found

    def tables(self, results):
        lines = [
            [
                "network and method",
                "correct, median",
                "each seed",
                "connections",
                "share",
                "LiteRT bytes",
                "sparse encoding",
            ]
        ]
        for row in self.rows:
            own = self.of_row(results, row)
            if not own:
                continue
            correct = [100 - result["test_error"] for result in own]
            middle = self.median_run(results, row)
            share = 100 * middle["connections"] / middle["potential"]
            sizes = middle["bytes"]
            lines.append(
                [
                    row.title,
                    f"{statistics.median(correct):.2f} %",
                    ", ".join(f"{value:.2f}" for value in correct),
                    f"{middle['connections']:,}",
                    f"{share:.2f} %",
                    *(
                        f"{sizes[stage]:,}" if stage in sizes else "-"
                        for stage in STAGES
                    ),
                ]
            )
        return [lines]

    def draw(self, results):
        titles = {row.name: row.title for row in self.rows}
        return plots.sparse_trainings(results, titles)


STUDY = DeepRStudy("deep_r", ROWS)


def _pruned(row, config, folder, where):
    place = Workdir(folder, {**config.to_json(), "pruned": row.pruned})
    path = place.file("pruned.json")
    try:
        if os.path.exists(path):
            with open(path) as file:
                return json.load(file)
        data = input_pipeline.load(config.dataset, **where)
        place.claim()
        keras.utils.set_random_seed(config.seed)
        model = networks.build(
            config, data.input_shape, data.classes, data.num_train
        )
        pruned = prune(model, 1 - row.pruned, config, data, config.epochs)
        files = {
            "dense": l0keras.export_tflite(model, place.file("dense.tflite")),
            "tflite": l0keras.export_tflite(pruned, place.file("model.tflite")),
            "tflite_sparse": l0keras.export_tflite(
                pruned, place.file("sparse.tflite"), sparse_encoding=True
            ),
        }
        times = l0keras.export.measure_latency(
            [file.path for file in files.values()]
        )
        found = {
            "name": row.name,
            "seed": config.seed,
            "test_error": error_percent(predict(pruned, data), data),
            "bytes": {name: file.bytes for name, file in files.items()},
            "latency_us": dict(zip(files, times, strict=True)),
            "epochs": config.epochs,
            "connections": sum(connections_of(pruned).values()),
            "potential": sum(kernel_sizes(pruned).values()),
        }
        write_json(path, found)
        return found
    finally:
        place.close()


def define_flags(flag_values=flags.FLAGS):
    """Defines the flags of this program."""
    study.define_flags(flag_values)


main = study.main(lambda: STUDY)


if __name__ == "__main__":
    program.run(main, define_flags)
