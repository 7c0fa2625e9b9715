r"""Exports the models of strangers and the networks of Keras, stripped.

    python -m trainers.studies.exports --save_to=saved_models/exports
    python -m trainers.studies.exports --only='text|U-Net'
    python -m trainers.studies.exports --tables=applications --only=ResNet

takes each model of `trainers.studies.corpus`, stripped as on the road of
`trainers.studies.wild`, and each function of `keras.applications` for its
smallest image, stripped as by `trainers.studies.zoo`; and writes each as a
LiteRT file in float32, dynamic and int8. A file that `export_tflite` refuses
has its reason. An error, or a process that ends, does not stop the others.
Rows that are in `--save_to` are not made again, unless with `--afresh`;
`--again` only writes their tables.
"""

import os
import sys
import tempfile
import traceback
from concurrent.futures.process import BrokenProcessPool

import keras
import numpy as np
from absl import flags

import l0keras
from trainers.benchmarks.applications import architectures
from trainers.run import program
from trainers.run import tables
from trainers.run.workdir import RESULTS
from trainers.studies import kept_rows
from trainers.studies import only
from trainers.studies import proof
from trainers.studies import road
from trainers.studies import zoo
from trainers.studies.corpus import ENTRIES
from trainers.studies.worker_process import WorkerProcess

FLAGS = flags.FLAGS
# The names of files in tables, and their quantizations.
FILES = {"float32": None, "dynamic": "dynamic", "int8": "int8"}
# Of inputs, by which ranges are chosen and files are compared.
EXAMPLES = 64
# A process makes so many rows of the corpus: its start takes as long as one.
ROWS_PER_PROCESS = 20


def _of_corpus(name, seed):
    return road.stripped(ENTRIES[name], seed, EXAMPLES)


def _of_applications(name, seed):
    return proof.stripped(zoo.builder(name), seed, EXAMPLES)


# From tables to functions of a name and a seed, which give a model and inputs.
MODELS = {"corpus": _of_corpus, "applications": _of_applications}


def names_in(table):
    """The names of all models of a table, in their order."""
    return list(ENTRIES) if table == "corpus" else sorted(architectures())


def _is_there(name):
    """Whether all that a model needs is installed."""
    return name not in ENTRIES or not road.missing(ENTRIES[name])


def _each(form, key):
    def cell(row):
        files = [row["files"][name] for name in FILES]
        return " / ".join(form(f[key]) if key in f else "-" for f in files)

    return cell


# Titles, and functions from a row to a cell.
COLUMNS = (
    ("model", lambda row: _line(row["name"])),
    ("parameters", lambda row: f"{row['params']:,}"),
    ("bytes", _each("{:,}".format, "bytes")),
    ("gzip", _each("{:,}".format, "gzip_bytes")),
    ("us", _each("{:,.0f}".format, "latency_us")),
    ("difference", _each("{:.0e}".format, "difference")),
    ("in floats", lambda row: str(len(row["files"]["int8"]["float_ops"]))),
)
NOTES = (
    "bytes, gzip (bytes after it), us (microseconds for one example on one "
    f"thread) and difference: of the files in {', '.join(FILES)}; - where "
    "there is no file, for which the reason is below.",
    "difference: the largest one between outputs of file and model on "
    f"{EXAMPLES} random inputs, as a share of the largest output.",
    "in floats: the number of operations of the int8 file that compute in "
    "floats.",
)


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    flags.DEFINE_multi_enum(
        "tables",
        list(MODELS),
        list(MODELS),
        "Tables to make rows for; may be given several times.",
        flag_values=flag_values,
    )
    only.define_flag(flag_values)
    program.define_seed_flag("weights, inputs and gates", flag_values)
    flags.DEFINE_boolean(
        "afresh",
        False,
        "Choice to make rows again that are there.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "save_to",
        None,
        f"Folder for {RESULTS} and a table each; rows of others are kept.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "again",
        None,
        f"Folder with a {RESULTS} whose tables to make again; nothing is "
        "exported.",
        flag_values=flag_values,
    )


# === Rows ===


def make_row(table, name, seed):
    """Exports one model; what goes wrong becomes part of the row.

    Args:
        table: a key of `MODELS`.
        name: the name of the model there.
        seed: an integer that fixes weights, inputs and gates.

    Returns:
        A dictionary for JSON:

        - `name`, `table`, `seed`.
        - `params`: the number of the stripped model's parameters.
        - `files`: see `export`.
        - `failed`: an error that nobody expects of a model, or `None`.
    """
    row = {"name": name, "table": table, "seed": seed, "failed": None}
    try:
        model, inputs = MODELS[table](name, seed)
        row["params"] = model.count_params()
        row["files"] = export(model, inputs)
    except Exception as error:
        # A model may break anything.
        traceback.print_exc()
        row["failed"] = f"{type(error).__name__}: {error}"
    return row


def export(model, inputs):
    """Writes a model in all of `FILES`.

    Args:
        model: a functional model without gates.
        inputs: examples of its inputs, in its own structure.

    Returns:
        A dictionary with one of each file: `bytes`, `gzip_bytes`,
        `latency_us`, `difference` (as a share of the largest output),
        `agreement` (the share of argmaxes that agree, or `None`) and, for
        integers, `float_ops`; or `refused`, with the words of
        `export_tflite`.
    """
    names = [tensor.name for tensor in model.inputs]
    data = dict(zip(names, keras.tree.flatten(inputs), strict=True))
    largest = max(
        np.max(np.abs(array.astype("float64")), initial=0.0)
        for array in road.outputs(model, inputs)
    )
    with tempfile.TemporaryDirectory() as folder:
        return {
            name: _export(model, data, largest, folder, quantization)
            for name, quantization in FILES.items()
        }


def _export(model, data, largest, folder, quantization):
    path = os.path.join(folder, "model.tflite")
    try:
        file = l0keras.export_tflite(model, path, quantization, data)
    except (RuntimeError, ValueError) as error:
        return {"refused": str(error)}
    found = {
        "bytes": file.bytes,
        "gzip_bytes": file.gzip_bytes,
        "latency_us": file.latency_us[1],
        "difference": file.max_difference / (largest or 1.0),
        "agreement": file.top1_agreement,
    }
    if file.float_ops is not None:
        found["float_ops"] = list(file.float_ops)
    return found


def sweep(chosen, seed, folder=None, afresh=False, file=None):
    """Makes rows, one after the other, in other processes.

    Args:
        chosen: a dictionary from tables to lists of names.
        seed: an integer.
        folder: the folder of the rows, in which those with the same seed and
            without a failure are looked for; `None` keeps none.
        afresh: whether to make rows again that are there.
        file: the file to print to, `sys.stdout` by default.

    Returns:
        A list of rows of `make_row`.

    Raises:
        ValueError: the folder cannot be written to or its file is damaged.
    """
    file = file or sys.stdout
    known = kept_rows.read(folder, RESULTS) if folder else {}
    rows = []
    for table, names in chosen.items():
        # Large networks need all memory.
        process = WorkerProcess(ROWS_PER_PROCESS if table == "corpus" else 1)
        for number, name in enumerate(names, 1):
            row = known.get(name)
            if afresh or not row or row["failed"] or row["seed"] != seed:
                start = f"{number}/{len(names)} {name}"
                row = _in_process(process, table, name, seed)
                line = "  ".join(cells(row)[1:])
                print(f"{start}: {line}", file=file, flush=True)
                for one in refusals(row):
                    print(f"  {one}", file=file, flush=True)
            known[name] = row
            rows.append(row)
            if folder:
                write(folder, known)
        process.close()
    return rows


def is_known(row):
    """Whether the corpus says that a model does not work yet."""
    return row["table"] == "corpus" and bool(ENTRIES[row["name"]].known)


def _in_process(process, table, name, seed):
    try:
        return process(make_row, table, name, seed)
    except BrokenProcessPool:
        failed = "its process was killed, perhaps because memory ran out"
    return {"name": name, "table": table, "seed": seed, "failed": failed}


# === Tables ===


def cells(row):
    """The cells of a row; `-` where there is no number."""
    return tables.cells(COLUMNS, row)


def refusals(row):
    """What a row has instead of files, a list of lines."""
    if row["failed"]:
        return [f"failed: {_line(row['failed'])}"]
    return [
        f"{name}: {_line(file['refused'])}"
        for name, file in row["files"].items()
        if "refused" in file
    ]


def _line(text):
    return " ".join(text.replace("|", "/").split())[:400]


def summary(rows):
    """One line on how many files there are."""
    done = [row for row in rows if not row["failed"]]
    parts = []
    for name in FILES:
        made = sum("bytes" in row["files"][name] for row in done)
        parts.append(f"{made} in {name}")
    failed = len(rows) - len(done)
    return (
        f"Files of {len(rows)} models: {', '.join(parts)}; {failed} models "
        "failed."
    )


def table(rows, missing=()):
    """Sets rows as a Markdown table with its notes.

    Args:
        rows: a list of rows of `make_row`.
        missing: the names of models that have none yet.

    Returns:
        A string of several lines.
    """
    titles = [title for title, _ in COLUMNS]
    parts = [
        summary(rows),
        tables.markdown([titles, *map(cells, rows)]),
        "\n".join(f"- {note}" for note in NOTES),
    ]
    refused = [
        f"- {_line(row['name'])}, {line}"
        for row in rows
        for line in refusals(row)
    ]
    if refused:
        parts += ["Without a file:", "\n".join(refused)]
    if missing:
        parts.append(f"Not exported yet: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


def in_order(known):
    """Lists of rows by tables, in the order of their models."""
    return {
        name: [
            known[one]
            for one in names_in(name)
            if one in known and known[one]["table"] == name
        ]
        for name in MODELS
    }


def missing_in(table, rows):
    """The names of the models of a table without a row."""
    made = {row["name"] for row in rows}
    return [name for name in names_in(table) if name not in made]


def write(folder, known):
    """Writes the rows of a dictionary by names, and their tables."""
    ordered = in_order(known)
    texts = {
        f"{name}.md": table(rows, missing_in(name, rows))
        for name, rows in ordered.items()
        if rows
    }
    kept_rows.write(folder, RESULTS, sum(ordered.values(), []), texts)
    return "\n".join(texts.values())


@program.main(resumes=True)
def main():
    if FLAGS.again:
        known = kept_rows.read_again(FLAGS.again, RESULTS)
        print(write(FLAGS.again, known))
        return
    names = {name: names_in(name) for name in FLAGS.tables}
    found = only.choose(FLAGS.only, sum(names.values(), []))
    chosen = {
        table: [one for one in all_names if one in found and _is_there(one)]
        for table, all_names in names.items()
    }
    rows = sweep(chosen, FLAGS.seed, FLAGS.save_to, FLAGS.afresh)
    print(f"\n{summary(rows)}")
    failed = [
        row["name"] for row in rows if row["failed"] and not is_known(row)
    ]
    if failed:
        sys.exit(f"error: {len(failed)} models failed: {', '.join(failed)}")


if __name__ == "__main__":
    program.run(main, define_flags)
