r"""Takes small models of strangers down the whole road.

    python -m trainers.studies.wild --save_to=saved_models/wild
    python -m trainers.studies.wild --only='text|U-Net'

builds each model of `trainers.studies.corpus` with random weights;
`trainers.studies.road` says through what it goes. A failure of one model does
not stop the others. With `--save_to` the rows are kept, those of other models
that are there too; `--again` only writes their table.
"""

import gc
import sys

from absl import flags

from trainers.run import program
from trainers.run import tables
from trainers.studies import kept_rows
from trainers.studies import only
from trainers.studies import road
from trainers.studies.corpus import ENTRIES
from trainers.studies.corpus import LIMIT

FLAGS = flags.FLAGS
FILE = "wild.json"


def _parameters(row):
    after = row["params"].get("after")
    end = "-" if after is None else f"{after:,}"
    return f"{row['params']['before']:,} > {end}"


def _gates(row):
    return f"{row['gates']['open']} of {row['gates']['units']}"


# Titles, and functions from a row to a cell.
COLUMNS = (
    ("model", lambda row: row["name"]),
    ("area", lambda row: row["area"]),
    ("parameters", _parameters),
    ("left", lambda row: f"{road.share(row):.0%}"),
    ("open gates", _gates),
    ("difference", lambda row: f"{max(row['difference'].values()):.0e}"),
    ("verdict", lambda row: road.verdict(ENTRIES[row["name"]], row)),
)
SECONDS = ("seconds", lambda row: f"{sum(row['seconds'].values()):.1f}")
NOTES = (
    "parameters: before and after strip, with half of each vector of gates "
    f"closed at random; {LIMIT:.0%} may be left, more where the verdict "
    "says why that has to be.",
    "open gates: of how many single ones.",
    "difference: the largest one of outputs, as a share of the largest "
    "output, between the model and the gated one, the gated and the stripped "
    "one, and that and what comes back from its file; "
    f"{road.TOLERANCE:g} is allowed.",
)


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    only.define_flag(flag_values)
    program.define_seed_flag("weights, inputs and gates", flag_values)
    flags.DEFINE_string(
        "save_to",
        None,
        f"Folder for {FILE} and table.md; rows of other models are kept.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "again",
        None,
        f"Folder with a {FILE} whose table to make again; no model is built.",
        flag_values=flag_values,
    )


def cells(row, columns=COLUMNS):
    """The cells of a row; `-` where a failure came before the number."""
    found = []
    for _, cell in columns:
        try:
            found.append(cell(row))
        except (KeyError, ValueError):
            found.append("-")
    return [" ".join(cell.replace("|", "/").split())[:160] for cell in found]


def summary(rows):
    """One line on how many models are fine."""
    verdicts = [road.verdict(ENTRIES[row["name"]], row) for row in rows]
    fine = sum(verdict.startswith("ok") for verdict in verdicts)
    known = sum(verdict.startswith("known") for verdict in verdicts)
    failed = sum(row["failed"] is not None for row in rows)
    return (
        f"{fine} of {len(rows)} models are fine, {known} are known not to be; "
        f"{failed} failed."
    )


def table(rows):
    """Sets rows as a Markdown table.

    Args:
        rows: a list of rows of `road.travel`.

    Returns:
        A string of several lines.
    """
    titles = [title for title, _ in COLUMNS]
    text = tables.markdown([titles, *(cells(row) for row in rows)])
    notes = "\n".join(f"- {note}" for note in NOTES)
    return "\n\n".join([summary(rows), text, notes]) + "\n"


def drive(entries, seed=0, folder=None, file=None):
    """Takes models down the road, one after the other, and prints rows.

    Args:
        entries: a list of `Entry`.
        seed: an integer.
        folder: where to keep the rows; `None` keeps none.
        file: the file to print to, `sys.stdout` by default.

    Returns:
        A list of rows of `road.travel`, without the models that need a module
        that is not there.
    """
    file = file or sys.stdout
    known = _read(folder) if folder else {}
    rows = []
    for number, entry in enumerate(entries, 1):
        missing = road.missing(entry)
        start = f"{number}/{len(entries)} {entry.name}"
        if missing:
            print(f"{start}: skipped, {missing} is not there", file=file)
            continue
        row = road.travel(entry, seed)
        gc.collect()
        known[entry.name] = row
        rows.append(row)
        shown = cells(row, (*COLUMNS[2:-1], SECONDS, COLUMNS[-1]))
        print(f"{start}: {'  '.join(shown)}", file=file, flush=True)
        if folder:
            _write(folder, known)
    return rows


def _read(folder, read=kept_rows.read):
    rows = read(folder, FILE)
    return {name: row for name, row in rows.items() if name in ENTRIES}


def _write(folder, known):
    rows = in_order(known)
    kept_rows.write(folder, FILE, rows, {"table.md": table(rows)})


def in_order(known):
    """Rows in the order of the corpus, from a dictionary by names."""
    return [known[name] for name in ENTRIES if name in known]


def again(folder):
    """Writes the table of the rows in a folder again, and returns it.

    Raises:
        ValueError: no rows in the folder.
    """
    known = _read(folder, kept_rows.read_again)
    _write(folder, known)
    return table(in_order(known))


@program.main()
def main():
    if FLAGS.again:
        print(again(FLAGS.again))
        return
    entries = [ENTRIES[name] for name in only.choose(FLAGS.only, ENTRIES)]
    rows = drive(entries, FLAGS.seed, FLAGS.save_to)
    titles = [title for title, _ in COLUMNS]
    print(f"\n{tables.text([titles, *map(cells, rows)])}\n")
    print(summary(rows))
    failed = [
        row["name"]
        for row in rows
        if row["failed"] and not ENTRIES[row["name"]].known
    ]
    if failed:
        sys.exit(f"error: {len(failed)} models failed: {', '.join(failed)}")


if __name__ == "__main__":
    program.run(main, define_flags)
