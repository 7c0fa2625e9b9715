r"""Compares loops with unrolled steps in the files of recurrent layers.

    python -m trainers.studies.recurrent --save_to=saved_models/recurrent

writes one recurrent layer of several sizes as a float LiteRT file twice, as a
loop and with `unroll=True`, and times both files in turns, one example on one
thread. The table is the reason why `l0keras.export_tflite` loops in floats.
"""

import itertools
import os
import tempfile

import keras
from absl import flags
from keras import layers

import l0keras
from trainers.run import program
from trainers.run import tables

FLAGS = flags.FLAGS
KINDS = ("LSTM", "GRU")
# Units, which are as many as the features of the input, and steps.
SIZES = ((8, 10), (8, 50), (64, 50), (200, 100))
ROUNDS = 15


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    program.define_results_flag(flag_values)


def write(kind, units, steps, unroll, folder):
    """Writes the file of one layer.

    Args:
        kind: a name in `KINDS`.
        units: the number of units.
        steps: the number of steps.
        unroll: as of the layer.
        folder: where the file goes.

    Returns:
        What `l0keras.export_tflite` returns.
    """
    keras.utils.set_random_seed(0)
    inputs = keras.Input((steps, units))
    outputs = getattr(layers, kind)(units, unroll=unroll)(inputs)
    path = os.path.join(folder, f"{kind}_{units}_{steps}_{unroll}.tflite")
    return l0keras.export_tflite(keras.Model(inputs, outputs), path)


def measure(kind, units, steps, folder, rounds=ROUNDS):
    """Writes and times both files of one layer.

    Args:
        kind, units, steps, folder: as in `write`.
        rounds: how often both are timed.

    Returns:
        A dictionary for JSON, with a list of the loop and the unrolled file
        for bytes and microseconds.
    """
    files = [write(kind, units, steps, u, folder) for u in (False, True)]
    paths = [file.path for file in files]
    times = [l0keras.export.measure_latency(paths) for _ in range(rounds)]
    return {
        "kind": kind,
        "units": units,
        "steps": steps,
        "bytes": [file.bytes for file in files],
        # Other work only ever slows a file.
        "latency_us": [min(own) for own in zip(*times, strict=True)],
    }


def table(rows):
    """Sets rows as a Markdown table, a string."""
    titles = ("layer", "units", "steps", "bytes, loop", "bytes, unrolled")
    lines = [[*titles, "us, loop", "us, unrolled"]]
    for row in rows:
        lines.append(
            [
                *(row["kind"], str(row["units"]), str(row["steps"])),
                *(f"{x:,}" for x in row["bytes"]),
                *(f"{x:,.0f}" for x in row["latency_us"]),
            ]
        )
    return tables.markdown(lines) + "\n"


@program.main(errors=(RuntimeError, ImportError))
def main():
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(kind, *size, folder)
            for kind, size in itertools.product(KINDS, SIZES)
        ]
    program.show_results(rows, table(rows))


if __name__ == "__main__":
    program.run(main, define_flags)
