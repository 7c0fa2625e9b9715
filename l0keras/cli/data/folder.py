"""A folder with a folder of images for each class."""

import contextlib
import io
import os

import keras

from l0keras.cli.data.source import Source
from l0keras.cli.data.source import share_held_out

# As `keras.utils.image_dataset_from_directory` finds images.
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
# What files of these kinds begin with.
_STARTS = (b"BM", b"GIF8", b"\xff\xd8\xff", b"\x89PNG")
_COLORS = {1: "grayscale", 3: "rgb", 4: "rgba"}


def from_folder(path, validation_path, values, task):
    """Streams images.

    Args:
        path: a folder.
        validation_path: another one with the same classes, or `None` to hold
            out a share of the first.
        values: the flags `validation_split`, `image_size`, `classes`,
            `batch_size` and `seed`.
        task: the `Task`.

    Returns:
        A `Source`.

    Raises:
        ValueError: there are no classes, other ones than the model tells
            apart, a class without images, a file that is no image, or the
            model does not read images.
    """
    found = _classes(path, "data")
    names = _ordered(sorted(found), values, task)
    size, channels, first = image_shape(task, values.image_size)
    arguments = {
        "class_names": names,
        "color_mode": _COLORS[channels],
        "image_size": size,
        "batch_size": values.batch_size,
        "data_format": "channels_first" if first else "channels_last",
        "seed": values.seed,
        "verbose": False,
    }
    total = sum(map(len, found.values()))

    def read(*args, **kwargs):
        # It prints its counts even if it is told not to.
        with contextlib.redirect_stdout(io.StringIO()):
            return keras.utils.image_dataset_from_directory(*args, **kwargs)

    if validation_path is None:
        held = share_held_out(total, values)
        # Both parts have to come from one call: they are cut from files in
        # one order.
        train, validation = read(
            path, validation_split=held / total, subset="both", **arguments
        )
        held = len(validation.file_paths)
        counts = total - held, held
    else:
        other = _classes(validation_path, "validation_data")
        if set(other) != set(found):
            raise ValueError(
                "Argument `validation_data` must have the folders of `data`, "
                f"{', '.join(names)}. Received: {', '.join(sorted(other))}"
            )
        train = read(path, **arguments)
        validation = read(validation_path, shuffle=False, **arguments)
        counts = total, sum(map(len, other.values()))
    return Source(train, validation, *counts, classes=True, names=names)


def image_shape(task, image_size=None):
    """How large the images are that a model reads.

    Args:
        task: the `Task`.
        image_size: height and width where the model takes any.

    Returns:
        A triple: height and width, the number of channels, and whether
        channels come first.

    Raises:
        ValueError: the model does not read images, or images of any size.
    """
    shape = task.input_shape
    # Images without an axis of channels are gray.
    rows = (*shape, 1) if len(shape) == 2 else shape
    first = len(rows) == 3 and rows[-1] not in _COLORS and rows[0] in _COLORS
    if first:
        rows = (*rows[1:], rows[0])
    if len(rows) != 3 or rows[-1] not in _COLORS:
        raise ValueError(
            "Argument `MODEL` must read images, of shape (height, width, "
            "channels) with 1, 3 or 4 channels, where `data` has images. "
            f"Received: a model with input shape {shape}"
        )
    size = rows[:2]
    if None in size:
        if image_size is None:
            raise ValueError(
                "Argument `image_size` must say how large images are, as the "
                "model takes any size. Received: none"
            )
        size = tuple(image_size if side is None else side for side in size)
    elif image_size is not None and size != (image_size, image_size):
        raise ValueError(
            f"Argument `image_size` must be left out or be the model's, "
            f"{size[0]} x {size[1]}. Received: image_size={image_size}"
        )
    return size, rows[-1], first


def _classes(path, name):
    """The files of each class, by the names of the folders."""
    names = sorted(
        entry.name
        for entry in os.scandir(path)
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise ValueError(
            f"Argument `{name}` must be a folder with a folder of images for "
            f"each class. Received: {name}={path}, which has no folders"
        )
    found = {}
    for label in names:
        files = [
            os.path.join(inner, file)
            for inner, _, files in os.walk(os.path.join(path, label))
            for file in files
            if file.lower().endswith(ENDINGS)
        ]
        if not files:
            raise ValueError(
                f"Argument `{name}` must have images in each of its folders, "
                f"{', '.join(ENDINGS)}. Received: {name}={path}, with none in "
                f"{label}"
            )
        for file in files:
            _check_image(file, name)
        found[label] = files
    return found


def _check_image(path, name):
    # One that cannot be read would end a training of hours.
    with open(path, "rb") as file:
        start = file.read(8)
    if not start.startswith(_STARTS):
        what = "an empty file" if not start else "which is no such image"
        raise ValueError(
            f"Argument `{name}` must have images that can be read, "
            f"{', '.join(ENDINGS)}. Received: {path}, {what}"
        )


def _ordered(found, values, task):
    names = found if values.classes is None else values.classes
    if sorted(names) != found:
        raise ValueError(
            "Argument `classes` must name each folder of `data` once: "
            f"{', '.join(found)}. Received: classes={','.join(names)}"
        )
    if len(names) != task.classes:
        hint = ""
        if set(names) <= {"train", "test", "val", "valid", "validation"}:
            hint = ". --data and --validation_data name these folders instead"
        raise ValueError(
            f"Argument `data` must have {task.classes} folders, one for each "
            f"class that the model tells apart. Received: {len(names)}, "
            f"{', '.join(names[:20])}{hint}"
        )
    return names
