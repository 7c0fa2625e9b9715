"""Models that a program finds on disk."""

import json
import os

import keras
from absl import flags

from trainers.data import input_pipeline

# In a workdir, in the order of the table.
FILES = ("model.keras", "stripped.keras", "model.tflite")


def define_flags(flag_values=flags.FLAGS):
    """Defines which model to read, for all programs that read one."""
    flags.DEFINE_string(
        "input",
        None,
        "Saved model, or the workdir of a training run.",
        flag_values=flag_values,
    )


def define_dataset_flags(flag_values=flags.FLAGS):
    """Defines which data a saved model is for; see `load_data`."""
    flags.DEFINE_string(
        "dataset",
        None,
        "Data that the model is for, see trainers.train; for a workdir "
        "those that it was trained on if unset.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "image_size",
        None,
        "Side to which images are resized, likewise; 0 leaves them.",
        flag_values=flag_values,
    )


def load_data(flag_values, settings, purpose):
    """Loads the data that the flags name, or else the workdir's settings.

    Args:
        flag_values: with the flags of `define_dataset_flags` and
            `config.define_data_flags`.
        settings: the settings that `find` gives.
        purpose: what the data are for, a part of an error's text.

    Returns:
        A `Data`.

    Raises:
        ValueError: neither says which.
    """
    dataset = flag_values.dataset or settings.get("dataset")
    if not dataset:
        raise ValueError(
            f"Argument `dataset` must say what to {purpose}, unless `input` "
            "is a workdir. Received: none"
        )
    size = flag_values.image_size
    if size is None:
        size = settings.get("image_size", 0)
    return input_pipeline.load(
        dataset, flag_values.data_dir, flag_values.manual_dir, size
    )


def find(path):
    """The models at a path.

    Args:
        path: a .keras or .tflite file, or a workdir.

    Returns:
        A pair: a list of paths of files, and the settings of the experiment,
        a dict, empty unless it was a workdir.

    Raises:
        ValueError: there is no such thing there.
    """
    if path and os.path.isfile(path) and path.endswith((".keras", ".tflite")):
        return [path], {}
    if path and os.path.isfile(os.path.join(path, "config.json")):
        files = [os.path.join(path, name) for name in FILES]
        files = [file for file in files if os.path.exists(file)]
        if not files:
            raise ValueError(
                "Argument `input` must be a workdir of a finished run. "
                f"Received: input={path}, which has no model yet"
            )
        with open(os.path.join(path, "config.json")) as file:
            return files, json.load(file)
    raise ValueError(
        "Argument `input` must be a .keras file, a .tflite file or a workdir "
        f"of trainers.train. Received: input={path}"
    )


def load(path):
    """Loads a .keras file; a .tflite file is run from its path, which it gives.

    Raises:
        ValueError: the file is damaged.
    """
    if path.endswith(".tflite"):
        return path
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        # What a damaged archive raises depends on where it is damaged.
        raise ValueError(
            "Argument `input` must be a model that can be loaded. "
            f"Received: input={path} ({type(error).__name__}: {error})"
        ) from error
