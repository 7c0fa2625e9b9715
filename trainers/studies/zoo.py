r"""Proves gates, strip and LiteRT export on every network of Keras.

    python -m trainers.studies.zoo --save_to=saved_models/zoo
    python -m trainers.studies.zoo --models=ResNet50,VGG16

takes all functions of `keras.applications`, each with random weights, 10
classes and the smallest images that it allows. A row says what came of it, see
`trainers.studies.proof`; an error in one does not stop the others. With
`--save_to` the rows are kept, and those of a run that was interrupted are not
made again.
"""

import functools
import inspect
import json
import os
import re
import sys
import time
import traceback
from concurrent.futures import process

import keras
from absl import flags

from trainers.benchmarks import measure
from trainers.run import program
from trainers.run import tables
from trainers.run.workdir import replacing
from trainers.run.workdir import write_json
from trainers.studies import proof

FLAGS = flags.FLAGS
CLASSES = 10
SMALLEST = 32


def _both(form, key):
    def cell(row):
        parts = [row[key].get(name) for name in ("dense", "stripped")]
        return " > ".join("-" if n is None else form(n) for n in parts)

    return cell


def _millions(number):
    return f"{number / 1e6:.2f}"


def _difference(name):
    return lambda row: f"{row['max_difference'][name]:.0e}"


# Titles, widths and what stands in a row.
COLUMNS = (
    ("network", 17, lambda row: row["name"]),
    ("image", 5, lambda row: str(row["input"][0])),
    ("gates", 6, lambda row: f"{row['gates']['units']}"),
    ("open", 6, lambda row: f"{row['gates']['open']}"),
    ("M parameters", 16, _both(_millions, "params")),
    ("M MACs", 20, _both(_millions, "macs")),
    ("MB LiteRT", 18, _both(_millions, "bytes")),
    ("strip", 7, _difference("stripped")),
    ("LiteRT", 7, _difference("tflite")),
    ("GiB", 5, lambda row: f"{row['peak_gib']:.1f}"),
)
NOTES = (
    "gates: the channels that have one, half of them closed at random; "
    "parameters, MACs of one image and bytes of the LiteRT file are those of "
    "the network before and after strip, in millions.",
    "strip, LiteRT: the largest difference between the outputs of the gated "
    "and the stripped network, and of that and its file, as a share of the "
    "largest deviation of a logit from its mean over the images; "
    f"{proof.TOLERANCE:g} is allowed, or what rounding errors of the images "
    "explain.",
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
    flags.DEFINE_integer(
        "seed",
        0,
        "Seed of weights, images and gates.",
        lower_bound=0,
        flag_values=flag_values,
    )
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
        "Folder for zoo.json and table.md; rows that are there are kept.",
        flag_values=flag_values,
    )


def architectures():
    """All networks of `keras.applications`: functions by their names."""
    return dict(inspect.getmembers(keras.applications, inspect.isfunction))


def builder(name):
    """What builds a network for the smallest images that it allows.

    Args:
        name: a key of `architectures()`.

    Returns:
        A function without arguments that returns a `keras.Model`.
    """
    function = architectures()[name]

    def build(size=SMALLEST):
        return function(
            weights=None,
            classes=CLASSES,
            classifier_activation=None,
            input_shape=(size, size, 3),
        )

    def build_smallest():
        try:
            return build()
        except ValueError as error:
            found = re.search(r"at least (\d+)x", str(error))
            if not found:
                raise
            return build(int(found[1]))

    return build_smallest


def make_row(name, prove):
    """Proves one network; errors become part of the row.

    Args:
        name: the name for the row.
        prove: a function without arguments that returns what `proof.prove`
            does.

    Returns:
        A dictionary for JSON.
    """
    start = time.perf_counter()
    row = {"seconds": {}}
    try:
        row = prove()
    except Exception as error:
        # What a network breaks is not known beforehand.
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

    So that all of its memory is free again, and if there was too little of it
    only this network fails.
    """
    try:
        return measure.in_a_process(_work, name, settings)
    except process.BrokenProcessPool:
        errors = ["its process was killed, perhaps for want of memory"]
        return {"name": name, "errors": errors}


def sweep(names, settings, folder=None, make=in_a_process, file=None):
    """Makes a row for each network and prints it.

    Args:
        names: a list of names of networks.
        settings: a dictionary of arguments of `proof.prove`.
        folder: where to keep the rows, and look for rows that were made with
            the same settings and without errors; `None` keeps none.
        make: from a name and the settings to a row.
        file: where to print, `sys.stdout` by default.

    Returns:
        A list of rows.

    Raises:
        ValueError: the folder cannot be written to or its file is damaged.
    """
    file = file or sys.stdout
    known = _read(folder) if folder else {}
    rows = []
    print(_line([title for title, _, _ in COLUMNS]), file=file, flush=True)
    for number, name in enumerate(names, 1):
        row = known.get(name, {})
        if row.get("settings") != settings or row["errors"]:
            _tell(f"{number}/{len(names)} {name} ...", file)
            row = {"settings": settings, **make(name, settings)}
        known[name] = row
        rows.append(row)
        print(_line(cells(row)), file=file, flush=True)
        for error in row["errors"]:
            print(f"  {error}", file=file, flush=True)
        if folder:
            _write(folder, known)
    return rows


def cells(row):
    """The cells of a row; what an error kept from being known is `-`."""
    found = []
    for _, _, cell in COLUMNS:
        try:
            found.append(cell(row))
        except KeyError:
            found.append("-")
    return found


def _line(texts):
    parts = [
        text.ljust(width) if index == 0 else text.rjust(width)
        for index, (text, (_, width, _)) in enumerate(zip(texts, COLUMNS))
    ]
    return "  ".join(parts)


def _tell(text, file):
    """Says on a terminal what goes on, until the row replaces it."""
    if file.isatty():
        print(f"\r{text}\033[K\r", end="", file=file, flush=True)


def table(rows):
    """Sets rows as a Markdown table.

    Args:
        rows: a list of rows of `sweep`.

    Returns:
        A string of several lines.
    """
    titles = [title for title, _, _ in COLUMNS]
    text = tables.markdown([titles, *(cells(row) for row in rows)])
    errors = [
        f"- {row['name']}: {error}" for row in rows for error in row["errors"]
    ]
    notes = "\n".join(f"- {note}" for note in NOTES)
    parts = [text, notes]
    if errors:
        parts.append("\n".join(["Errors:", "", *errors]))
    return "\n\n".join(parts) + "\n"


def _read(folder):
    path = os.path.join(folder, "zoo.json")
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(path):
            return {}
        with open(path) as file:
            return {row["name"]: row for row in json.load(file)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "Argument `save_to` must be a new folder or one of this program. "
            f"Received: save_to={folder} ({error})"
        ) from None


def _write(folder, known):
    rows = [known[name] for name in sorted(known)]
    write_json(os.path.join(folder, "zoo.json"), rows)
    with replacing(os.path.join(folder, "table.md")) as path:
        with open(path, "w") as file:
            file.write(table(rows))


@program.main(resumes=True)
def main():
    known = architectures()
    names = FLAGS.models or list(known)
    for name in names:
        if name not in known:
            raise ValueError(
                "Argument `models` must name functions of "
                f"keras.applications: {', '.join(known)}. Received: {name}"
            )
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
