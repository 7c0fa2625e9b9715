"""What can be said of the flags before TensorFlow is imported."""

import os

from l0keras.cli import flags

# What each subcommand may write.
ENDINGS = {
    "compress": (".keras", ".tflite"),
    "strip": (".keras",),
    "report": (),
    "export": (".tflite",),
}
# Quantizations whose ranges are measured on examples.
NEED_DATA = ("int8", "int16x8")


def check(values):
    """Checks flags and the files that they name.

    Args:
        values: what the parser of `flags.make_parser` gave.

    Raises:
        ValueError: a flag is missing, does not go with another, or names a
            file that is not there or must not be written.
    """
    _check_model("MODEL", values.model)
    if values.command == "report":
        if values.other is not None:
            _check_model("OTHER", values.other)
    else:
        _check_outputs(values)
    if values.report is not None:
        _check_file("report", values.report, (".json",), values)
    if values.command == "compress":
        _check_targets(values)
    if values.command == "export":
        _check_c_array(values)
    if hasattr(values, "data"):
        _check_data(values)


def _check_model(name, path):
    if not path.endswith(".keras"):
        hint = ""
        if path.endswith((".h5", ".hdf5")):
            hint = (
                ". This makes one of it: keras.saving.load_model("
                f"{path!r}).save('model.keras')"
            )
        raise ValueError(
            f"Argument `{name}` must be a .keras file. "
            f"Received: {name}={path}{hint}"
        )
    if not os.path.isfile(path):
        raise ValueError(
            f"Argument `{name}` must be a file that exists. "
            f"Received: {name}={path}"
        )


def _check_outputs(values):
    endings = ENDINGS[values.command]
    if not values.output:
        raise ValueError(
            "Argument `output` must name the file to write, "
            f"{' or '.join(endings)}. Received: none"
        )
    for path in values.output:
        _check_file("output", path, endings, values)
    found = [os.path.splitext(path)[1] for path in values.output]
    if len(set(found)) < len(found):
        raise ValueError(
            "Argument `output` must be given once for each of "
            f"{' and '.join(endings)} at most. "
            f"Received: {', '.join(values.output)}"
        )
    if values.command == "compress" and ".tflite" not in found:
        if values.quantization != "float32" and not (
            values.target_bytes or values.target_latency
        ):
            raise ValueError(
                "Argument `quantization` is for .tflite files. Received: "
                f"quantization={values.quantization}, "
                f"output={', '.join(values.output)}"
            )


def _check_file(name, path, endings, values):
    if not path.endswith(endings):
        raise ValueError(
            f"Argument `{name}` must end in {' or '.join(endings)}. "
            f"Received: {name}={path}"
        )
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ValueError(
            f"Argument `{name}` must lie in a folder that exists and can be "
            f"written to. Received: {name}={path}"
        )
    if os.path.isdir(path):
        raise ValueError(
            f"Argument `{name}` must be a file. "
            f"Received: {name}={path}, a folder"
        )
    read = (values.model, getattr(values, "other", None))
    if os.path.realpath(path) in [os.path.realpath(p) for p in read if p]:
        raise ValueError(
            f"Argument `{name}` must be another file than the one that is "
            f"read. Received: {name}={path}"
        )
    if os.path.exists(path) and not values.overwrite:
        raise ValueError(
            f"Argument `{name}` must be a file that does not exist yet, unless "
            f"--overwrite is given. Received: {name}={path}"
        )


def _check_c_array(values):
    path = values.c_array
    if path is None:
        return
    if values.target != "micro":
        raise ValueError(
            "Argument `c_array` is for --target=micro. "
            f"Received: c_array={path}"
        )
    _check_file("c_array", path, (".cc",), values)
    _check_file("c_array", path.removesuffix(".cc") + ".h", (".h",), values)


def _check_targets(values):
    if all(getattr(values, f"target_{of}") is None for of in flags.TARGETS):
        names = ", ".join(f"--target_{of}" for of in flags.TARGETS)
        raise ValueError(
            f"At least one of {names} must say which size is asked for. "
            "Received: none"
        )


def _check_data(values):
    if values.data is None:
        if values.command == "compress":
            raise ValueError(
                "Argument `data` must name the examples to train on. "
                "Received: none"
            )
        if values.quantization in NEED_DATA:
            raise ValueError(
                "Argument `data` must name examples that the ranges of "
                f"{values.quantization} files are measured on. Received: none"
            )
        if values.validation_data is not None:
            raise ValueError(
                "Argument `validation_data` must come with `data`. "
                f"Received: validation_data={values.validation_data}"
            )
        return
    if None not in (values.validation_data, values.validation_split):
        raise ValueError(
            "Arguments `validation_data` and `validation_split` must not both "
            f"be given. Received: validation_data={values.validation_data}, "
            f"validation_split={values.validation_split}"
        )
    for name in ("data", "validation_data"):
        path = getattr(values, name)
        if path is not None:
            _check_source(name, path)


def _check_source(name, path):
    if os.path.isdir(path) or (path.endswith(".npz") and os.path.isfile(path)):
        return
    # A name of tensorflow_datasets has none of these, but for its version.
    is_path = path.endswith(".npz") or any(
        mark in path for mark in (os.sep, "\\", "~")
    )
    if name == "validation_data" or is_path or os.path.exists(path):
        raise ValueError(
            f"Argument `{name}` must be a folder or an .npz file that exists"
            f"{', or a name of tensorflow_datasets' * (name == 'data')}. "
            f"Received: {name}={path}"
        )
