"""Files that are whole or not there."""

import contextlib
import json
import os
import tempfile


@contextlib.contextmanager
def draft(path):
    """Gives a name to write to that becomes `path` once all went well.

    Args:
        path: the path of a file. An older one stays until then.

    Yields:
        The path of a file with the same ending, on the same disk.
    """
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.TemporaryDirectory(prefix=".l0keras-", dir=folder) as inner:
        name = os.path.join(inner, os.path.basename(path))
        yield name
        os.replace(name, path)


def save_model(model, path):
    """Writes a .keras file and returns its size in bytes."""
    with draft(path) as name:
        model.save(name)
    return os.path.getsize(path)


def save_json(value, path):
    """Writes a value as JSON."""
    with draft(path) as name, open(name, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
