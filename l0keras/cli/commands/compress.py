"""`l0keras compress`."""

import os
import tempfile

import keras

import l0keras
from l0keras.cli.comparison import Comparison
from l0keras.cli.compiling import check_compiled
from l0keras.cli.compiling import compile_as_asked
from l0keras.cli.data.load_data import load_data
from l0keras.cli.flags import TARGETS
from l0keras.cli.flags import quantization_of
from l0keras.cli.loading import load
from l0keras.cli.outputs import draft
from l0keras.cli.outputs import save_json
from l0keras.cli.outputs import save_model
from l0keras.export import export_tflite
from l0keras.targets import Target
from l0keras.targets.target import OF_FILES

DENSE = "dense.tflite"


def run(values):
    """Trains a model to a size, writes it and prints what came of it.

    Args:
        values: the flags.

    Raises:
        ImportError: LiteRT, or what reads the data, is not installed.
        ValueError: as `load`, `load_data`, `check_compiled` and
            `l0keras.compress`.
        RuntimeError: as `l0keras.compress` and `export_tflite`.
    """
    keras.utils.set_random_seed(values.seed)
    targets = targets_of(values)
    model = load(values.model, values)
    check_compiled(model, values)
    data = load_data(model, values)
    compile_as_asked(model, values, data)
    paths = {os.path.splitext(path)[1]: path for path in values.output}
    with tempfile.TemporaryDirectory() as folder:
        dense_file = None
        if ".tflite" in paths:
            # A model that LiteRT cannot run is found out before the training.
            print("Writing the dense model's file and running it ...")
            dense_file = os.path.join(folder, DENSE)
            _export(model, dense_file, values, data)
        comparison = Comparison(model, dense_file, data)
        print(comparison.line, flush=True)
        result = l0keras.compress(
            model,
            data.train,
            target=targets,
            epochs=values.epochs,
            validation_data=data.validation,
            teacher=None if values.teacher == "none" else values.teacher,
            backup_dir=values.backup_dir,
        )
        written = _write(result.model, paths, values, data)
        comparison.compare(result.model, paths.get(".tflite"), targets)
    print(comparison)
    for line in written:
        print(line)
    if values.report is not None:
        layers = result.report.to_dict()
        save_json({**comparison.to_dict(), "layers": layers}, values.report)


def targets_of(values):
    """The targets that the flags ask for, a list of `Target`s."""
    targets = []
    for of in TARGETS:
        size = getattr(values, f"target_{of}")
        if size is None:
            continue
        number = {"share": size} if size <= 1 else {"at_most": _whole(size)}
        quantization = quantization_of(values) if of in OF_FILES else None
        targets.append(Target(of, **number, quantization=quantization))
    return targets


def _whole(size):
    return int(size) if size == int(size) else size


def _export(model, path, values, data):
    return export_tflite(model, path, quantization_of(values), data.train)


def _write(small, paths, values, data):
    """Writes all files, the one that cannot fail first."""
    lines = []
    if ".keras" in paths:
        path = paths[".keras"]
        lines.append(f"{path}: {save_model(small, path):,} bytes")
    if ".tflite" in paths:
        path = paths[".tflite"]
        try:
            with draft(path) as name:
                file = _export(small, name, values, data)
        except (RuntimeError, ValueError) as error:
            kept = paths.get(".keras") or _kept(small, path)
            raise RuntimeError(
                f"{error} The small model itself is in {kept}."
            ) from error
        lines.append(
            f"{path}: {file.bytes:,} bytes, {values.quantization}; largest "
            f"difference from the model {file.max_difference:.2g}"
        )
    return lines


def _kept(small, path):
    """Saves a model whose training would be lost, under a name of its own."""
    stem, number = os.path.splitext(path)[0], 0
    while os.path.exists(name := f"{stem}{number or ''}.keras"):
        number += 1
    save_model(small, name)
    return name
