"""Rows of a study in a folder, which are kept from one run to the next."""

import json
import os

from trainers.run.workdir import write_json
from trainers.run.workdir import write_text


def read(folder, file):
    """The rows in a folder, which is made if it is not there.

    Args:
        folder: the path of the folder.
        file: the name of the JSON file in it, a list of rows with a `name`.

    Returns:
        A dictionary of the rows by their names, empty without the file.

    Raises:
        ValueError: the folder cannot be written to or its file is damaged.
    """
    path = os.path.join(folder, file)
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(path):
            return {}
        with open(path) as opened:
            return {row["name"]: row for row in json.load(opened)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "Argument `save_to` must be a new folder or one of this program. "
            f"Received: save_to={folder} ({error})"
        ) from None


def read_again(folder, file):
    """The rows in a folder, see `read`, for tables that are made again.

    Raises:
        ValueError: no rows in the folder.
    """
    rows = read(folder, file) if os.path.isdir(folder) else {}
    if not rows:
        raise ValueError(
            f"Argument `again` must be a folder with a {file}. "
            f"Received: again={folder}"
        )
    return rows


def write(folder, file, rows, texts):
    """Writes rows, and their tables.

    Args:
        folder: the path of a folder.
        file: the name of the JSON file.
        rows: a list of rows with a `name`.
        texts: a dictionary of the texts of further files by their names.
    """
    write_json(os.path.join(folder, file), rows)
    for name, text in texts.items():
        write_text(os.path.join(folder, name), text)
