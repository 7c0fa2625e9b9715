r"""Runs LiteRT files on 64-bit Arm, emulated, and compares their outputs.

    python -m trainers.studies.arm --save_to=saved_models/arm

takes the files of `saved_models`, LeNet-5 in each quantization, and models of
`trainers.studies.corpus`, half of whose gates are closed, stripped; runs each
file here and on processors that QEMU emulates, on the same random inputs; and
keeps the largest differences. Nothing is timed: an emulator's times say nothing
of a device's. It needs Debian and QEMU's user mode, see `arm_python`.
"""

import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import keras
import numpy as np
from absl import flags

import l0keras
from trainers.run import program
from trainers.run import tables
from trainers.studies import proof
from trainers.studies.arm_python import PROCESSORS
from trainers.studies.arm_python import ArmPython
from trainers.studies.corpus import ENTRIES

FLAGS = flags.FLAGS
SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
RUN_FILES = pathlib.Path(__file__).with_name("run_files.py")
EXAMPLES = 16
# Twice as many as `export_tflite` wants to choose ranges by.
REPRESENTATIVE = 64
LENET5 = "mnist_lenet5_l0_sep"
# Models of the corpus, with other operations each.
MODELS = (
    "MobileNetV2, own blocks",
    "squeeze-and-excite network",
    "vision transformer",
    "U-Net",
    "WaveNet",
    "human activity, LSTM",
    "ECG",
    "keyword spotting, DS-CNN",
    "anomalies, dense autoencoder",
)
QUANTIZATIONS = (None, "dynamic", "int8")
# By what share inputs are changed, see `NOTES`.
SHAKE = 1e-6
SHAKEN = "x86-64, shaken"
NOTES = (
    f"Each file runs on {EXAMPLES} random inputs, one after the other, on one "
    "thread, on x86-64 and on each processor of Arm.",
    "Floats: the largest difference between an output on x86-64 and there, as "
    "a share of the largest deviation of an output from its mean over the "
    "inputs. Integers: the largest difference, in steps of the output's scale.",
    f"{SHAKEN}: the same, without Arm, if each number of the inputs changes by "
    f"a share of {SHAKE:g}: by so much a file amplifies rounding errors. "
    "Integers as inputs are not changed.",
)


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "arm_dir",
        os.path.join("runs", "arm"),
        "Folder for a Python for Arm, fetched if it is not there.",
        flag_values=flag_values,
    )
    program.define_results_flag(flag_values)


# === Files ===


def save_files(folder):
    """Copies the saved files into a folder; returns rows without outputs."""
    rows = []
    for path in sorted(SAVED.glob("*/*.tflite")):
        name = f"{path.parent.name}/{path.name}"
        # Another one than that of a file which is written here.
        stem = name.replace("/", "-").removesuffix(".tflite")
        rows.append(_row(name, f"saved-{stem}"))
        shutil.copy(path, folder / rows[-1]["file"])
    return rows


def export_files(title, name, model, data, folder, quantizations):
    """Writes a model in several quantizations; returns rows without outputs.

    A file that `export_tflite` refuses to write has a row with its reason.
    """
    rows = []
    for quantization in quantizations:
        row = _row(title, f"{name}-{quantization or 'float32'}")
        row["quantization"] = quantization or "float32"
        rows.append(row)
        try:
            l0keras.export_tflite(
                model, folder / row["file"], quantization, data
            )
        except (RuntimeError, ValueError) as error:
            row["refused"] = str(error)
            print(_refusal(row), flush=True)
    return rows


def stripped(entry):
    """A model of the corpus, half of whose gates were closed, stripped."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = entry.build()
    proof.randomize(model, rng)
    proof.fit_statistics(model, examples_for(model), rng)
    gated = l0keras.sparsify(model, l0=1e-6, droprate_init=0.02, seed=0)
    # Of gates at random, and with weights that let a signal through.
    proof.close_half(gated, rng)
    return l0keras.strip(gated)


def examples_for(model):
    """Random inputs to choose ranges by, for a model with one input."""
    shape = (REPRESENTATIVE, *model.input_shape[1:])
    rng = np.random.default_rng(1)
    return rng.standard_normal(shape, dtype="float32")


def _row(title, stem):
    return {"name": title, "file": f"{stem}.tflite"}


def random_inputs(path, examples=EXAMPLES, seed=0):
    """Random inputs of the types of a file, a dictionary by their names."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, tensor in l0keras.export.signature(path)["inputs"].items():
        shape = (examples, *(size or 32 for size in tensor["shape"][1:]))
        if tensor["dtype"].startswith("float"):
            array = rng.standard_normal(shape)
        else:
            limits = np.iinfo(tensor["dtype"])
            array = rng.integers(limits.min, limits.max + 1, shape)
        arrays[name] = array.astype(tensor["dtype"])
    return arrays


# === Runs ===


def shaken(inputs, seed=1):
    """Inputs whose floats have changed by a share of `SHAKE`, up or down."""
    rng = np.random.default_rng(seed)

    def change(array):
        if np.issubdtype(array.dtype, np.integer):
            return array
        signs = rng.choice((-1, 1), array.shape)
        return (array * (1 + SHAKE * signs)).astype(array.dtype)

    return {name: change(array) for name, array in inputs.items()}


def difference(here, there):
    """The largest difference between two dictionaries of outputs.

    Returns:
        For floats, a share of the largest deviation of an output from its mean
        over the examples; an `int` of steps if all outputs are integers.

    Raises:
        ValueError: other names, shapes or types, a number that is not finite,
            or outputs that are the same for all examples, which prove nothing.
    """
    forms = [
        {name: (array.shape, array.dtype) for name, array in side.items()}
        for side in (here, there)
    ]
    if forms[0] != forms[1]:
        raise ValueError(f"Outputs are {forms[0]} here and {forms[1]} there.")
    steps, shares = [], []
    for name, array in here.items():
        wide = array.astype("float64")
        largest = np.max(np.abs(wide - there[name]))
        deviation = np.max(np.abs(wide - wide.mean(axis=0)))
        if not np.isfinite(largest) or deviation == 0:
            raise ValueError(f"Output '{name}' is not finite or is constant.")
        if np.issubdtype(array.dtype, np.integer):
            steps.append(int(largest))
        else:
            shares.append(float(largest / deviation))
    return max(shares) if shares else max(steps)


def compare(rows, folder, arm):
    """Runs the files of rows here and on Arm, and adds what came out.

    Args:
        rows: a list of dictionaries with a `file` in `folder` each; they get
            `bytes`, and `difference`, a dictionary by processors and `SHAKEN`,
            or `refused` where outputs cannot be compared.
        folder: a `pathlib.Path`.
        arm: an `ArmPython`.
    """
    made = [row for row in rows if "refused" not in row]
    inputs, others = _new(folder / "inputs"), _new(folder / "shaken-inputs")
    for row in made:
        path = folder / row["file"]
        row["bytes"] = path.stat().st_size
        row["difference"] = {}
        arrays = random_inputs(path)
        np.savez(inputs / f"{path.stem}.npz", **arrays)
        np.savez(others / f"{path.stem}.npz", **shaken(arrays))

    def run(python, name, inputs):
        outputs = _new(folder / name)
        print(f"{len(made)} files on {name}", flush=True)
        python([RUN_FILES, folder, inputs, outputs])
        return [_read(outputs, row) for row in made]

    def here(arguments):
        subprocess.run([sys.executable, *arguments], check=True)

    expected = run(here, "x86-64", inputs)
    found = {SHAKEN: run(here, SHAKEN, others)}
    for processor in PROCESSORS:
        python = functools.partial(arm.run, processor)
        found[processor] = run(python, processor, inputs)
    for name, outputs in found.items():
        for row, one, other in zip(made, expected, outputs):
            try:
                row["difference"][name] = difference(one, other)
            except ValueError as error:
                row["refused"] = f"{name}: {error}"


def _new(folder):
    folder.mkdir()
    return folder


def _read(folder, row):
    with np.load(folder / row["file"].replace(".tflite", ".npz")) as arrays:
        return dict(arrays)


# === Tables ===


def table(rows):
    """Sets rows as a Markdown table with its notes, a string."""
    titles = ["model", "file", "bytes", *PROCESSORS, SHAKEN]
    made = [row for row in rows if "refused" not in row]
    lines = [
        [
            row["name"],
            row.get("quantization", "as saved"),
            f"{row['bytes']:,}",
            *(_cell(row["difference"][name]) for name in titles[3:]),
        ]
        for row in made
    ]
    parts = [tables.markdown([titles, *lines])]
    parts.append("\n".join(f"- {note}" for note in NOTES))
    refused = [row for row in rows if "refused" in row]
    if refused:
        parts.append("Files that could not be written, or show nothing:")
        parts.append("\n".join(map(_refusal, refused)))
    return "\n\n".join(parts) + "\n"


def _cell(value):
    if isinstance(value, int):
        return f"{value} step{'' if value == 1 else 's'}"
    return f"{value:.0e}" if value else "0"


def _refusal(row):
    reason = row["refused"].strip().splitlines()[0]
    file = row.get("quantization", "as saved")
    return f"- {row['name']}, {file}: {reason}"


@program.main(errors=(RuntimeError,))
def main():
    arm = ArmPython(FLAGS.arm_dir)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = save_files(folder)
        model = keras.saving.load_model(SAVED / LENET5 / "stripped.keras")
        data = examples_for(model)
        ways = l0keras.export.QUANTIZATIONS
        rows += export_files(LENET5, LENET5, model, data, folder, ways)
        for number, name in enumerate(MODELS):
            print(name, flush=True)
            model = stripped(ENTRIES[name])
            data = examples_for(model)
            rows += export_files(
                name, f"{number}", model, data, folder, QUANTIZATIONS
            )
        compare(rows, folder, arm)
    program.show_results(rows, table(rows))


if __name__ == "__main__":
    program.run(main, define_flags)
