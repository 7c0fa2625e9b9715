r"""Compares files of one network: pruned, stripped, quantized.

    python -m trainers.studies.compare --workdir=runs/compare \
        --input=saved_models/mnist_lenet5_l0_sep

takes a finished run with gates, or a folder of `saved_models`, and sets three
others beside it: the same network, trained without gates for as many epochs on
the same data; that network pruned by magnitude to the same number of weights
during further training (tensorflow-model-optimization); and the small network
that the gates have left, trained from new weights for as many epochs. How to
prune best is searched for on held-out training examples
(`--validation_examples`). All of them become LiteRT files, in floats and in
int8; ours also with fine-tuning for int8, and with weights that share values.
Errors, sizes and latencies are those of the files. The same command goes on
where it was stopped. `--rows` takes names with commas in quotes:
--rows='"l0, int8",dense'.
"""

import dataclasses
import functools
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
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict
from trainers.run.scratch import train_from_scratch
from trainers.run.training import train
from trainers.run.workdir import Workdir
from trainers.run.workdir import replacing
from trainers.studies import plots
from trainers.studies import study
from trainers.studies.pruning import Setting
from trainers.studies.pruning import pruned
from trainers.studies.pruning import search_on
from trainers.studies.pruning import sparsity_for
from trainers.studies.variants import VARIANTS

FLAGS = flags.FLAGS
# The number of times that each file is timed; each time is the median of 100
# runs.
ROUNDS = 20
# Training examples by which int8 files choose their ranges.
REPRESENTATIVE = 500


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
        prune_epochs: the number of epochs of pruning, with which the search
            for its best setting begins.
        validation_examples: how many training examples are held out in that
            search; 0 prunes the same share of each layer without any.

    Raises:
        ValueError: a source that is not as above.
    """

    has_seeds = False
    _folder = None

    def __init__(
        self,
        source=None,
        tuning=None,
        prune_epochs=40,
        validation_examples=10_000,
    ):
        super().__init__("compare", VARIANTS)
        if source is None:
            return
        self._config, self._stripped = _finished(source)
        self._tuning = tuning
        self._pruning = Setting(epochs=prune_epochs)
        self._validation_examples = validation_examples
        self._settings = {
            "config": self._config.to_json(),
            "tuning": dataclasses.asdict(tuning),
            "prune_epochs": prune_epochs,
            "validation_examples": validation_examples,
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
            `gzip_bytes`, and of what was pruned `search`, pairs of the name
            of a setting and its error on held-out examples; see
            `Study.result`.
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
            if row.origin == "pruned" and self._validation_examples:
                self._results[row.name]["search"] = [
                    [setting.name, error] for setting, error in self._tried()
                ]
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
        found = [
            [titles, *([cell(row) for _, cell in COLUMNS] for row in results)]
        ]
        searches = [row["search"] for row in results if "search" in row]
        if searches:
            tried = [[name, f"{error:.2f} %"] for name, error in searches[0]]
            found.append([["pruned by", "error on held-out examples"], *tried])
        return found

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
            origin: `"dense"`, `"pruned"`, `"from scratch"` or `"l0"`.
        """
        if origin not in self._models:
            make = {
                "dense": self._dense,
                "pruned": self._pruned,
                "from scratch": self._from_scratch,
                "l0": lambda: saved.load(self._stripped),
            }
            self._models[origin] = make[origin]()
        return self._models[origin]

    def _dense(self, validation_examples=0):
        """The dense network, of all training examples or without some."""
        config = dataclasses.replace(
            self._config.without_sparsity(),
            validation_examples=validation_examples,
        )
        name = "dense_held_out" if validation_examples else "dense"
        folder = self._folder.file(name)
        train(config, folder, held_out=validation_examples > 0, **self._where)
        return saved.load(os.path.join(folder, "model.keras"))

    def _from_scratch(self):
        path = self._folder.file("from_scratch.keras")
        if not os.path.exists(path):
            small = train_from_scratch(
                self.model("l0"),
                self._config,
                self._data,
                self._folder.file("from_scratch.npz"),
            )
            with replacing(path) as draft:
                small.save(draft)
        return saved.load(path)

    @functools.cached_property
    def _search(self):
        """What `pruning.search` returns."""
        if not self._validation_examples:
            return [], self._pruning
        count, config = self._validation_examples, self._config
        dense = self._dense(count)
        return search_on(
            dense,
            sparsity_for(dense, self.model("l0").count_params()),
            self._pruning,
            config,
            self._data.without_test(count, config.seed),
            self._folder.file("pruning.json"),
        )

    def _tried(self):
        return self._search[0]

    def _pruned(self):
        path = self._folder.file("pruned.keras")
        if not os.path.exists(path):
            dense, (_, best) = self.model("dense"), self._search
            small = pruned(
                dense,
                sparsity_for(dense, self.model("l0").count_params()),
                best,
                self._config,
                self._data,
            )
            with replacing(path) as draft:
                small.save(draft)
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
    config = config_lib.Config.from_json(settings)
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
        "Epochs of pruning, after the training of the dense network; the "
        "search for its best setting tries twice as many too.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "validation_examples",
        10_000,
        "Number of training examples to hold out in the search for the best "
        "setting of pruning; 0 searches for none.",
        lower_bound=0,
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
    return Comparison(
        FLAGS.input or "",
        tuning,
        FLAGS.prune_epochs,
        FLAGS.validation_examples,
    )


main = study.main(_study, errors=(RuntimeError, ImportError))


if __name__ == "__main__":
    program.run(main, define_flags)
