r"""Proves gates, strip and LiteRT export on every network of Keras.

    python -m trainers.studies.zoo --save_to=saved_models/zoo
    python -m trainers.studies.zoo --models=ResNet50,VGG16

takes all functions of `keras.applications`, each with random weights, 10
classes and the smallest images that it allows. `trainers.studies.proof` says
which steps and checks each goes through; an error in one network does not stop
the others. With `--save_to` the rows are kept, and rows that are there already
are not made again; `--again` only writes their table.
"""

import functools
import sys
import time
import traceback
from concurrent.futures import process

from absl import flags

from trainers.benchmarks import measure
from trainers.benchmarks.applications import architectures
from trainers.benchmarks.applications import builder
from trainers.benchmarks.applications import check_names
from trainers.run import program
from trainers.run import tables
from trainers.studies import kept_rows
from trainers.studies import proof

FLAGS = flags.FLAGS
FILE = "zoo.json"


def _both(form, key):
    def cell(row):
        parts = [row[key].get(name) for name in ("dense", "stripped")]
        return " > ".join("-" if n is None else form(n) for n in parts)

    return cell


def _millions(number):
    return f"{number / 1e6:.2f}"


def _difference(name):
    return lambda row: f"{row['max_difference'][name]:.0e}"


# Titles, and functions from a row to a cell.
COLUMNS = (
    ("network", lambda row: row["name"]),
    ("image", lambda row: str(row["input"][0])),
    ("gates", lambda row: f"{row['gates']['units']}"),
    ("open", lambda row: f"{row['gates']['open']}"),
    ("M parameters", _both(_millions, "params")),
    ("M MACs", _both(_millions, "macs")),
    ("MB LiteRT", _both(_millions, "bytes")),
    ("strip", _difference("stripped")),
    ("LiteRT", _difference("tflite")),
    ("GiB", lambda row: f"{row['peak_gib']:.1f}"),
)
NOTES = (
    "gates: the channels that have one, half of them closed at random; "
    "parameters, MACs of one image and bytes of the LiteRT file are those of "
    "the network before and after strip, in millions.",
    "strip, LiteRT: the largest difference between the outputs of the gated "
    "and the stripped network, and of that and its file, as a share of the "
    "largest deviation of a logit from its mean over the images; "
    f"{proof.TOLERANCE:g} is allowed, or as much as rounding errors of the "
    "images explain.",
    "GiB: the most memory that the process held, TensorFlow itself included.",
)


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    flags.DEFINE_list(
        "models",
        [],
        "Functions of keras.applications, with commas between; all if empty.",
        flag_values=flag_values,
    )
    program.define_seed_flag("weights, images and gates", flag_values)
    flags.DEFINE_boolean(
        "dense_file",
        True,
        "Choice to write the LiteRT file of the whole network too, to "
        "compare sizes.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "save_to",
        None,
        f"Folder for {FILE} and table.md; rows that are there are kept.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "again",
        None,
        f"Folder with a {FILE} whose table to make again; nothing is proved.",
        flag_values=flag_values,
    )


def make_row(name, prove):
    """Proves one network; errors become part of the row.

    Args:
        name: the name for the row.
        prove: a function without arguments that returns a row of
            `proof.prove`.

    Returns:
        A dictionary for JSON.
    """
    start = time.perf_counter()
    row = {"seconds": {}}
    try:
        row = prove()
    except Exception as error:
        # A network may break anything.
        traceback.print_exc()
        row["errors"] = [f"{type(error).__name__}: {error}"]
    row["name"] = name
    row["seconds"]["all"] = round(time.perf_counter() - start, 2)
    row["peak_gib"] = round(measure.peak() / 2**30, 2)
    return row


def _work(name, settings):
    return make_row(
        name, functools.partial(proof.prove, builder(name), **settings)
    )


def in_a_process(name, settings):
    """The row of a network, made in a process of its own.

    Its memory is free again afterwards, and a network that takes too much of
    it fails alone.
    """
    try:
        return measure.in_a_process(_work, name, settings)
    except process.BrokenProcessPool:
        errors = ["its process was killed, perhaps because memory ran out"]
        return {"name": name, "errors": errors}


def sweep(names, settings, folder=None, make=in_a_process, file=None):
    """Makes a row for each network, and prints errors.

    Args:
        names: a list of names of networks.
        settings: a dictionary of arguments of `proof.prove`.
        folder: the folder of the rows, in which those that were made with the
            same settings and without errors are looked for; `None` keeps none.
        make: a function from a name and the settings to a row.
        file: the file to print to, `sys.stdout` by default.

    Returns:
        A list of rows.

    Raises:
        ValueError: the folder cannot be written to or its file is damaged.
    """
    file = file or sys.stdout
    known = kept_rows.read(folder, FILE) if folder else {}
    rows = []
    for number, name in enumerate(names, 1):
        row = known.get(name, {})
        if row.get("settings") != settings or row["errors"]:
            print(f"{number}/{len(names)} {name}", file=file, flush=True)
            row = {"settings": settings, **make(name, settings)}
        known[name] = row
        rows.append(row)
        for error in row["errors"]:
            print(f"  {error}", file=file, flush=True)
        if folder:
            _write(folder, known)
    return rows


def cells(row):
    """The cells of a row; `-` where an error came before the number."""
    return tables.cells(COLUMNS, row)


def table(rows):
    """Sets rows as a Markdown table.

    Args:
        rows: a list of rows of `sweep`.

    Returns:
        A string of several lines.
    """
    titles = [title for title, _ in COLUMNS]
    text = tables.markdown([titles, *(cells(row) for row in rows)])
    errors = [
        f"- {row['name']}: {error}" for row in rows for error in row["errors"]
    ]
    notes = "\n".join(f"- {note}" for note in NOTES)
    parts = [text, notes]
    if errors:
        parts.append("\n".join(["Errors:", "", *errors]))
    return "\n\n".join(parts) + "\n"


def _write(folder, known):
    rows = [known[name] for name in sorted(known)]
    kept_rows.write(folder, FILE, rows, {"table.md": table(rows)})


def again(folder):
    """Writes the table of the rows in a folder again, and returns it.

    Raises:
        ValueError: no rows in the folder.
    """
    known = kept_rows.read_again(folder, FILE)
    _write(folder, known)
    return table([known[name] for name in sorted(known)])


@program.main(resumes=True)
def main():
    if FLAGS.again:
        print(again(FLAGS.again))
        return
    names = FLAGS.models or list(architectures())
    check_names("models", names)
    settings = {"seed": FLAGS.seed, "dense_file": FLAGS.dense_file}
    rows = sweep(names, settings, FLAGS.save_to)
    print(f"\n{table(rows)}")
    failed = [row["name"] for row in rows if row["errors"]]
    if failed:
        sys.exit(
            f"error: {len(failed)} of {len(rows)} networks failed: "
            f"{', '.join(failed)}"
        )
    print(f"All {len(rows)} networks passed.")


if __name__ == "__main__":
    program.run(main, define_flags)
