r"""Compares LiteRT's converter and LiteRT's quantizer on small networks.

    python -m trainers.studies.quantizer --save_to=saved_models/quantizer

takes the stripped networks of `saved_models`, writes each in the quantizations
of the converter and by rules for the quantizer, and keeps the sizes of the
files, their test errors and how far their outputs are from those of the floats.
Ranges, and weights by GPTQ, are chosen by training examples. A network whose
data cannot be loaded is left out, with the reason.
"""

import json
import pathlib
import tempfile

import keras
import numpy as np
from absl import flags

import l0keras
from l0keras.export import Precision
from trainers.benchmarks import latency
from trainers.data import input_pipeline
from trainers.run import program
from trainers.run import saved
from trainers.run import tables
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict

FLAGS = flags.FLAGS
SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
# Training examples by which files choose their ranges.
REPRESENTATIVE = 500
# How often each file is timed, in turns; a time is the median of 100 runs.
ROUNDS = 5
COLUMNS = (
    ("network", lambda row: row["network"]),
    ("by", lambda row: row["by"]),
    ("quantization", lambda row: row["name"]),
    ("bytes", lambda row: f"{row['bytes']:,}"),
    ("gzip bytes", lambda row: f"{row['gzip_bytes']:,}"),
    ("test error", lambda row: f"{row['test_error']:.2f} %"),
    ("difference", lambda row: f"{row['difference']:.1e}"),
    ("same class", lambda row: f"{row['same']:.2f} %"),
    ("latency", lambda row: f"{row['latency']:.2f}"),
)
NOTES = (
    "difference: the largest one from an output of the float file, over the "
    "test examples, as a share of the largest output.",
    "same class: the share of test examples with the prediction of the float "
    "file.",
    "latency: of one example on one thread, as a share of the float file's; "
    "files in turns.",
    "Blocks of 32 inputs or more, each with a scale of its own, are not "
    "compared: no dense layer here has a multiple of 32 inputs.",
)


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    program.define_data_flags(flag_values)
    flags.DEFINE_list(
        "networks",
        None,
        "Names of folders of saved_models; all with a network if unset.",
        flag_values=flag_values,
    )
    program.define_results_flag(flag_values)


def ways(model):
    """The quantizations of a model: triples of who, a name and the argument."""
    dense = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense)
    ]
    chosen = f"^({'|'.join(dense)})$"

    def apart(precision):
        return {chosen: precision, ".": Precision(8)}

    four = "dense int4"
    return [
        ("converter", "float32", None),
        ("converter", "float16", "float16"),
        ("converter", "dynamic", "dynamic"),
        ("converter", "int8", "int8"),
        ("quantizer", "int8, dynamic", {".": Precision(8)}),
        ("quantizer", "int8, in floats", {".": Precision(8, "float32")}),
        ("quantizer", "int8, integers", {".": Precision(8, "int8")}),
        ("quantizer", "int4, dynamic", {".": Precision(4)}),
        ("quantizer", "int4, in floats", {".": Precision(4, "float32")}),
        ("quantizer", "int4, integers", {".": Precision(4, "int8")}),
        ("quantizer", four, apart(Precision(4))),
        ("quantizer", f"{four}, MSE", apart(Precision(4, method="mse"))),
        ("quantizer", f"{four}, GPTQ", apart(Precision(4, method="gptq"))),
    ]


def study(name, model, data, folder):
    """The rows of one network.

    Args:
        name: that of the network.
        model: a plain `keras.Model`.
        data: what `input_pipeline.load` returns.
        folder: a `pathlib.Path` for the files.

    Raises:
        RuntimeError: weights stay in floats, so that a name would say more
            than is so.
    """
    rows, paths, floats = [], [], None
    for by, title, quantization in ways(model):
        path = str(folder / f"{name}-{len(rows)}.tflite")
        file = l0keras.export_tflite(
            model,
            path,
            quantization,
            data.sample(REPRESENTATIVE),
            # All are compared here, however far from the model.
            check=False,
        )
        if file.kept:
            raise RuntimeError(f"{name}, {title}: in floats {file.kept}")
        logits = predict(path, data)
        floats = logits if floats is None else floats
        same = np.argmax(logits, -1) == np.argmax(floats, -1)
        difference = np.max(np.abs(logits - floats))
        rows.append(
            {
                "network": name,
                "by": by,
                "name": title,
                "bytes": file.bytes,
                "gzip_bytes": file.gzip_bytes,
                "test_error": error_percent(logits, data),
                "difference": float(difference / np.max(np.abs(floats))),
                "same": 100 * float(np.mean(same)),
            }
        )
        paths.append(path)
        print(f"{name}, {by}, {title}: {rows[-1]}", flush=True)
    times = latency.benchmark_tflite(paths, [1], ROUNDS)[1]
    for row, path in zip(rows, paths, strict=True):
        row["latency"] = times[path]["ratio"]
    return rows


def networks(chosen=None):
    """The folders of saved networks, in order; see `--networks`."""
    found = sorted(path.parent for path in SAVED.glob("*/stripped.keras"))
    if chosen is None:
        return found
    known = {folder.name: folder for folder in found}
    missing = [name for name in chosen if name not in known]
    if missing:
        raise ValueError(
            f"Argument `networks` must be some of {', '.join(known)}. "
            f"Received: {', '.join(missing)}"
        )
    return [known[name] for name in chosen]


def table(rows, left_out):
    """Sets rows as a Markdown table with its notes, a string."""
    titles = [title for title, _ in COLUMNS]
    lines = [[cell(row) for _, cell in COLUMNS] for row in rows]
    parts = [
        tables.markdown([titles, *lines]),
        "\n".join(f"- {note}" for note in NOTES),
    ]
    if left_out:
        parts.append(
            "\n".join(f"- left out: {name}, {why}" for name, why in left_out)
        )
    return "\n\n".join(parts) + "\n"


@program.main(errors=(RuntimeError, ImportError))
def main():
    rows, left_out = [], []
    with tempfile.TemporaryDirectory() as folder:
        for place in networks(FLAGS.networks):
            with open(place / "report.json") as file:
                config = json.load(file)["config"]
            try:
                data = input_pipeline.load(
                    config["dataset"],
                    FLAGS.data_dir,
                    FLAGS.manual_dir,
                    config.get("image_size", 0),
                )
            except (OSError, ValueError, RuntimeError) as error:
                reason = str(error).strip().splitlines()[0]
                left_out.append((place.name, reason))
                continue
            model = saved.load(str(place / "stripped.keras"))
            rows += study(place.name, model, data, pathlib.Path(folder))
    program.show_results(rows, table(rows, left_out))


if __name__ == "__main__":
    program.run(main, define_flags)
