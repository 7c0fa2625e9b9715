r"""Compares what can be made of one network: pruned, stripped, quantized.

    python -m trainers.studies.compare --workdir=runs/compare \
        --input=saved_models/mnist_lenet5_l0_sep

takes a finished run with gates, or a folder of `saved_models`, and sets beside
it the same network, trained without gates for as many epochs on the same data,
and that network pruned by magnitude to the same number of weights while it is
trained further (tensorflow-model-optimization). All of them become LiteRT
files, in floats and in int8; ours also with fine-tuning for int8, and with
weights that share values. Errors, sizes and
latencies are those of the files. What is there already in the workdir is not
made again.
"""

import dataclasses
import gzip
import json
import os

import keras
import numpy as np
from absl import flags

import l0keras
from trainers import export as export_lib
from trainers.benchmarks import latency
from trainers.data import input_pipeline
from trainers.run import config as config_lib
from trainers.run import finetune
from trainers.run import networks
from trainers.run import program
from trainers.run import saved
from trainers.run import tables
from trainers.run.finetune import prune
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict
from trainers.run.training import train
from trainers.run.workdir import Workdir
from trainers.run.workdir import replacing
from trainers.run.workdir import write_json
from trainers.studies import plots

FLAGS = flags.FLAGS
# How often each file is timed; each time is the median of 100 runs.
ROUNDS = 20


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Args:
        name: what is shown.
        origin: which model it is made of, a key of `Comparison.models`.
        quantization: see `l0keras.export_tflite`.
        sparse_encoding: likewise.
        clusters: whether weights are made to share values before.
        quantize_aware: whether it is fine-tuned for int8 before.
    """

    name: str
    origin: str
    quantization: str | None = None
    sparse_encoding: bool = False
    clusters: bool = False
    quantize_aware: bool = False

    @property
    def file(self):
        """The name of its file."""
        return self.name.replace(",", "").replace(" ", "_") + ".tflite"


VARIANTS = (
    Variant("dense", "dense"),
    Variant("dense, int8", "dense", "int8"),
    Variant("pruned", "pruned"),
    Variant("pruned, sparse encoding", "pruned", sparse_encoding=True),
    Variant("pruned, int8", "pruned", "int8"),
    Variant("l0", "l0"),
    Variant("l0, int8", "l0", "int8"),
    Variant("l0, int8, fine-tuned", "l0", "int8", quantize_aware=True),
    Variant("l0, clustered", "l0", clusters=True),
    Variant(
        "l0, clustered, int8, fine-tuned",
        "l0",
        "int8",
        clusters=True,
        quantize_aware=True,
    ),
)
COLUMNS = (
    ("test error", lambda row: f"{row['test_error']:.2f} %"),
    ("weights", lambda row: f"{row['params']:,}"),
    ("MACs", lambda row: f"{row['macs']:,}"),
    ("bytes", lambda row: f"{row['bytes']:,}"),
    ("gzip bytes", lambda row: f"{row['gzip_bytes']:,}"),
    ("latency us", lambda row: f"{row['latency_us']:.1f}"),
    ("quartiles", lambda row: "{:.1f}-{:.1f}".format(*row["quartiles_us"])),
)


class Comparison:
    """All variants of one network in one folder.

    Args:
        source: a workdir of a finished run with gates, or a folder of
            `saved_models`.
        workdir: the folder for everything that this leaves behind.
        data_dir, manual_dir: see `input_pipeline.load`.
        tuning: a `FineTuning` with epochs for both kinds.
        prune_epochs: the epochs of pruning.

    Raises:
        ValueError: an argument that is not as above.
    """

    def __init__(
        self, source, workdir, data_dir, manual_dir, tuning, prune_epochs
    ):
        self._config, stripped = _finished(source)
        self._tuning = tuning
        self._prune_epochs = prune_epochs
        settings = {
            "config": self._config.to_json(),
            "tuning": dataclasses.asdict(tuning),
            "prune_epochs": prune_epochs,
        }
        self._where = {"data_dir": data_dir, "manual_dir": manual_dir}
        self._l0 = saved.load(stripped)
        self._models = {}
        self._folder = Workdir(workdir, settings)
        try:
            self._data = input_pipeline.load(
                self._config.dataset,
                image_size=self._config.image_size,
                **self._where,
            )
            self._folder.claim()
        except BaseException:
            self._folder.close()
            raise

    def run(self):
        """Makes all variants and measures them.

        Returns:
            A dictionary from the names of the variants to their rows, also
            in `compare.json`, `table.md` and `compare.png` of the workdir.
        """
        try:
            return self._run()
        finally:
            self._folder.close()

    def _run(self):
        rows = {}
        for number, variant in enumerate(VARIANTS, 1):
            print(f"{number}/{len(VARIANTS)} {variant.name}", flush=True)
            path = self._write(variant)
            model = self.model(variant.origin)
            with open(path, "rb") as file:
                content = file.read()
            rows[variant.name] = {
                "test_error": error_percent(
                    predict(path, self._data), self._data
                ),
                "params": _nonzero(model),
                "macs": l0keras.count_macs(model),
                "bytes": len(content),
                "gzip_bytes": len(gzip.compress(content, mtime=0)),
            }
        paths = [self._folder.file(variant.file) for variant in VARIANTS]
        times = latency.benchmark_tflite(paths, [1], ROUNDS)[1]
        for variant, path in zip(VARIANTS, paths, strict=True):
            row = rows[variant.name]
            row["latency_us"] = times[path]["median_us"]
            row["quartiles_us"] = [times[path]["q1_us"], times[path]["q3_us"]]
        save(rows, self._folder.path)
        return rows

    def model(self, origin):
        """The Keras model that variants are made of: plain, in floats.

        Args:
            origin: `"dense"`, `"pruned"` or `"l0"`.
        """
        if origin not in self._models:
            make = {
                "dense": self._dense,
                "pruned": self._pruned,
                "l0": lambda: self._l0,
            }
            self._models[origin] = make[origin]()
        return self._models[origin]

    def _dense(self):
        folder = self._folder.file("dense")
        train(dense_config(self._config), folder, **self._where)
        return saved.load(os.path.join(folder, "model.keras"))

    def _pruned(self):
        path = self._folder.file("pruned.keras")
        if not os.path.exists(path):
            dense = self.model("dense")
            pruned = prune(
                dense,
                sparsity_for(dense, self._l0.count_params()),
                self._config,
                self._data,
                self._prune_epochs,
            )
            with replacing(path) as draft:
                pruned.save(draft)
        return saved.load(path)

    def _write(self, variant):
        path = self._folder.file(variant.file)
        if os.path.exists(path):
            return path
        model = self.model(variant.origin)
        tuning = dataclasses.replace(
            self._tuning,
            cluster_epochs=self._tuning.cluster_epochs * variant.clusters,
            quantize_epochs=(
                self._tuning.quantize_epochs * variant.quantize_aware
            ),
        )
        if tuning.trains:
            model = finetune.fine_tune(
                model, self._data, tuning, self._config.seed
            )
        l0keras.export_tflite(
            model,
            path,
            variant.quantization,
            self._data.sample(export_lib.REPRESENTATIVE),
            variant.sparse_encoding,
        )
        return path


def dense_config(config):
    """The settings of a run with gates, for the same network without."""
    names = [
        "l0_lambda",
        "droprate_init",
        "sample_per",
        "dependence",
        "cost",
        "penalty",
        "finetune_epochs",
        "gate_learning_rate",
        "gate_lr_decay",
    ]
    if networks.NETWORKS[config.model].gated_layers:
        # It was coupled with the gates.
        names.append("weight_decay")
    return dataclasses.replace(
        config,
        method="dense",
        epochs=config.epochs + config.finetune_epochs,
        **{name: getattr(config_lib.Config, name) for name in names},
    )


def sparsity_for(model, weights):
    """The share of zeros in kernels that leaves so many weights.

    Args:
        model: a plain Keras model.
        weights: how many weights shall be left, biases among them.

    Returns:
        A float in (0, 1).

    Raises:
        ValueError: so few weights cannot be left.
    """
    kernels = sum(
        int(np.prod(layer.kernel.shape))
        for layer in model.layers
        if hasattr(layer, "kernel")
    )
    others = model.count_params() - kernels
    density = (weights - others) / kernels
    if not 0 < density < 1:
        raise ValueError(
            f"Argument `input` must be a run with more weights than the "
            f"{others} biases of the network, and fewer than all. "
            f"Received: {weights} weights"
        )
    return 1 - density


def _finished(source):
    report = os.path.join(source or "", "report.json")
    stripped = os.path.join(source or "", "stripped.keras")
    if not os.path.isfile(report) or not os.path.isfile(stripped):
        raise ValueError(
            "Argument `input` must be the workdir of a finished run of "
            "trainers.train, or a folder of saved_models. "
            f"Received: input={source}"
        )
    with open(report) as file:
        settings = json.load(file)["config"]
    config = config_lib.Config(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in settings.items()
        }
    )
    if config.method == "dense":
        raise ValueError(
            "Argument `input` must be a run with gates. "
            f"Received: input={source}, with method=dense"
        )
    return config, stripped


def _nonzero(model):
    return sum(
        int(np.count_nonzero(keras.ops.convert_to_numpy(weight)))
        for weight in model.weights
    )


def cells(rows):
    """The table as lists of strings, the titles first."""
    table = [["", *(title for title, _ in COLUMNS)]]
    for name, row in rows.items():
        table.append([name, *(cell(row) for _, cell in COLUMNS)])
    return table


def save(rows, folder):
    """Leaves rows, table and picture in a folder."""
    write_json(os.path.join(folder, "compare.json"), rows)
    with replacing(os.path.join(folder, "table.md")) as path:
        with open(path, "w") as file:
            file.write(tables.markdown(cells(rows)) + "\n")
    with replacing(os.path.join(folder, "compare.png")) as path:
        plots.files(rows).savefig(path, dpi=150)


def again(folder):
    """Makes table and picture of a saved comparison again.

    Args:
        folder: a folder with `compare.json`.

    Returns:
        The rows.
    """
    path = os.path.join(folder, "compare.json")
    if not os.path.exists(path):
        raise ValueError(
            "Argument `again` must be a folder with a saved comparison. "
            f"Received: {folder}, without compare.json"
        )
    with open(path) as file:
        rows = json.load(file)
    save(rows, folder)
    return rows


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    program.define_data_flags(flag_values)
    program.define_device_flags(flag_values)
    flags.DEFINE_string(
        "input",
        None,
        "Workdir of a finished run with gates, or a folder of saved_models.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder for all files of the comparison.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "prune_epochs",
        40,
        "Epochs of pruning, after the training of the dense network.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "finetune_epochs",
        10,
        "Epochs of each fine-tuning: for shared values, and for int8.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "clusters",
        finetune.FineTuning.clusters,
        "Number of values that the weights of a layer share.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "again",
        None,
        "Folder of a saved comparison whose table and picture to make again, "
        "without any training.",
        flag_values=flag_values,
    )


@program.main(errors=(RuntimeError, ImportError), resumes=True)
def main():
    program.set_up(FLAGS.num_threads)
    tuning = finetune.FineTuning(
        cluster_epochs=FLAGS.finetune_epochs,
        quantize_epochs=FLAGS.finetune_epochs,
        clusters=FLAGS.clusters,
    )
    if FLAGS.again:
        rows = again(FLAGS.again)
    else:
        rows = Comparison(
            FLAGS.input,
            FLAGS.workdir,
            FLAGS.data_dir,
            FLAGS.manual_dir,
            tuning,
            FLAGS.prune_epochs,
        ).run()
    print(tables.text(cells(rows)))
    print(
        "\nErrors, bytes and latencies are those of the LiteRT files; weights "
        "are those that are not zero; latency is one\nexample on one thread, "
        f"the median and quartiles of {ROUNDS} rounds in which all files take "
        "turns."
    )


if __name__ == "__main__":
    program.run(main, define_flags)
