r"""Compares files of one network: pruned, stripped, quantized.

    python -m trainers.studies.compare --workdir=runs/compare \
        --input=saved_models/mnist_lenet5_l0_sep

takes a finished run with gates, or a folder of `saved_models`, and sets two
others beside it: the same network, trained without gates for as many epochs on
the same data, and that network pruned by magnitude to the same number of
weights during further training (tensorflow-model-optimization). All of them
become LiteRT files, in floats and in int8; ours also with fine-tuning for
int8, and with weights that share values. Errors, sizes and latencies are those
of the files. The same command goes on where it was stopped. `--rows` takes
names with commas in quotes: --rows='"l0, int8",dense'.
"""

import dataclasses
import gzip
import json
import os

import keras
import numpy as np
from absl import flags

import l0keras
from trainers.benchmarks import latency
from trainers.data import input_pipeline
from trainers.run import config as config_lib
from trainers.run import finetune
from trainers.run import program
from trainers.run import saved
from trainers.run.finetune import prune
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict
from trainers.run.training import train
from trainers.run.workdir import Workdir
from trainers.run.workdir import replacing
from trainers.studies import plots
from trainers.studies import study

FLAGS = flags.FLAGS
# The number of times that each file is timed; each time is the median of 100
# runs.
ROUNDS = 20
# Training examples by which int8 files choose their ranges.
REPRESENTATIVE = 500


@dataclasses.dataclass(frozen=True)
class Variant(study.Row):
    """A row of the table: a file.

    Args:
        name, title: see `study.Row`.
        origin: the model that it is made of, see `Comparison.model`.
        quantization: see `l0keras.export_tflite`.
        sparse_encoding: likewise.
        clusters: whether weights share values.
        quantize_aware: whether the model is fine-tuned for int8.
    """

    flagfile: str = ""
    origin: str = "l0"
    quantization: str | None = None
    sparse_encoding: bool = False
    clusters: bool = False
    quantize_aware: bool = False

    @property
    def last_file(self):
        """The name of its file."""
        return self.name.replace(",", "").replace(" ", "_") + ".tflite"

    def folder(self, workdir, seed=None):
        """The folder of all files."""
        return workdir


def _variant(name, **arguments):
    origin = name.partition(",")[0]
    int8 = "int8" if "int8" in name else None
    return Variant(name, name, origin=origin, quantization=int8, **arguments)


VARIANTS = (
    _variant("dense"),
    _variant("dense, int8"),
    _variant("pruned"),
    _variant("pruned, sparse encoding", sparse_encoding=True),
    _variant("pruned, int8"),
    _variant("l0"),
    _variant("l0, int8"),
    _variant("l0, int8, fine-tuned", quantize_aware=True),
    _variant("l0, clustered", clusters=True),
    _variant(
        "l0, clustered, int8, fine-tuned", clusters=True, quantize_aware=True
    ),
)
COLUMNS = (
    ("", lambda row: row["name"]),
    ("test error", lambda row: f"{row['test_error']:.2f} %"),
    ("weights", lambda row: f"{row['params']:,}"),
    ("MACs", lambda row: f"{row['macs']:,}"),
    ("bytes", lambda row: f"{row['bytes']:,}"),
    ("gzip bytes", lambda row: f"{row['gzip_bytes']:,}"),
    ("latency us", lambda row: f"{row['latency_us']:.1f}"),
    ("quartiles", lambda row: "{:.1f}-{:.1f}".format(*row["quartiles_us"])),
)


class Comparison(study.Study):
    """All variants of one network in one folder.

    Args:
        source: a workdir of a finished run with gates, or a folder of
            `saved_models`; `None` to show saved results only.
        tuning: a `FineTuning` with epochs for both kinds.
        prune_epochs: the number of epochs of pruning.

    Raises:
        ValueError: a source that is not as above.
    """

    has_seeds = False
    _folder = None

    def __init__(self, source=None, tuning=None, prune_epochs=40):
        super().__init__("compare", VARIANTS)
        if source is None:
            return
        self._config, self._stripped = _finished(source)
        self._tuning = tuning
        self._prune_epochs = prune_epochs
        self._settings = {
            "config": self._config.to_json(),
            "tuning": dataclasses.asdict(tuning),
            "prune_epochs": prune_epochs,
        }
        self._models, self._results = {}, {}

    def run(self, flag_values=FLAGS):
        """See `Study.run`; lets other processes have the folder at the end."""
        try:
            return super().run(flag_values)
        finally:
            self.close()

    def result(self, row, seed, folder, where):
        """Makes a file, or takes the one that is there, and tests it.

        Returns:
            Also `params` (weights that are not 0), `macs`, `bytes` and
            `gzip_bytes`; see `Study.result`.
        """
        self._open(folder, where)
        if row.name not in self._results:
            path = self._write(row)
            model = self.model(row.origin)
            with open(path, "rb") as file:
                content = file.read()
            self._results[row.name] = {
                "name": row.name,
                "test_error": error_percent(
                    predict(path, self._data), self._data
                ),
                "params": _nonzero(model),
                "macs": l0keras.count_macs(model),
                "bytes": len(content),
                "gzip_bytes": len(gzip.compress(content, mtime=0)),
            }
        return self._results[row.name]

    def finish(self, results, workdir):
        """Measures the latencies of all files in turns."""
        files = {row.name: row.last_file for row in self.rows}
        paths = [os.path.join(workdir, files[r["name"]]) for r in results]
        times = latency.benchmark_tflite(paths, [1], ROUNDS)[1]
        return [
            {
                **result,
                "latency_us": times[path]["median_us"],
                "quartiles_us": [times[path]["q1_us"], times[path]["q3_us"]],
            }
            for result, path in zip(results, paths, strict=True)
        ]

    def tables(self, results):
        titles = [title for title, _ in COLUMNS]
        return [
            [titles, *([cell(row) for _, cell in COLUMNS] for row in results)]
        ]

    def draw(self, results):
        return plots.files(results)

    def _open(self, folder, where):
        if self._folder:
            return
        place = Workdir(folder, self._settings)
        try:
            self._where = where
            self._data = input_pipeline.load(
                self._config.dataset,
                image_size=self._config.image_size,
                **where,
            )
            place.claim()
        except BaseException:
            place.close()
            raise
        self._folder = place

    def close(self):
        """Lets other processes have the folder."""
        if self._folder:
            self._folder.close()
            self._folder = None

    def model(self, origin):
        """The plain Keras model in floats that variants are made of.

        Args:
            origin: `"dense"`, `"pruned"` or `"l0"`.
        """
        if origin not in self._models:
            make = {
                "dense": self._dense,
                "pruned": self._pruned,
                "l0": lambda: saved.load(self._stripped),
            }
            self._models[origin] = make[origin]()
        return self._models[origin]

    def _dense(self):
        folder = self._folder.file("dense")
        train(self._config.without_sparsity(), folder, **self._where)
        return saved.load(os.path.join(folder, "model.keras"))

    def _pruned(self):
        path = self._folder.file("pruned.keras")
        if not os.path.exists(path):
            dense = self.model("dense")
            pruned = prune(
                dense,
                sparsity_for(dense, self.model("l0").count_params()),
                self._config,
                self._data,
                self._prune_epochs,
            )
            with replacing(path) as draft:
                pruned.save(draft)
        return saved.load(path)

    def _write(self, variant):
        path = self._folder.file(variant.last_file)
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
            self._data.sample(REPRESENTATIVE),
            variant.sparse_encoding,
        )
        return path


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


STUDY = Comparison()


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    study.define_flags(flag_values, has_seeds=False)
    flags.DEFINE_string(
        "input",
        None,
        "Workdir of a finished run with gates, or folder of saved_models.",
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


def _study():
    if FLAGS.again:
        return STUDY
    tuning = finetune.FineTuning(
        cluster_epochs=FLAGS.finetune_epochs,
        quantize_epochs=FLAGS.finetune_epochs,
        clusters=FLAGS.clusters,
    )
    return Comparison(FLAGS.input or "", tuning, FLAGS.prune_epochs)


main = study.main(_study, errors=(RuntimeError, ImportError))


if __name__ == "__main__":
    program.run(main, define_flags)
