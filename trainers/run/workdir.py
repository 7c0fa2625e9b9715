"""The folder of one training run."""

import contextlib
import fcntl
import json
import os

# In the folder of a study, beside table.md.
RESULTS = "results.json"


class Workdir:
    """A folder that belongs to one experiment and to one process at a time.

    Args:
        path: the folder, made where it does not exist.
        settings: what makes the experiment what it is, a dict for JSON.
        defaults: the values of settings that the record of an older version
            does not have yet.

    Raises:
        ValueError: the folder cannot be written to, holds another
            experiment, or another process is at work in it.
    """

    def __init__(self, path, settings, defaults=None):
        if not path:
            raise ValueError(
                "Argument `workdir` must be a folder for what the run leaves "
                "behind. Received: none"
            )
        self.path = os.path.expanduser(path)
        self._settings = settings
        self._defaults = defaults or {}
        self._lock_folder()
        try:
            self._check()
        except ValueError:
            self.close()
            raise

    def file(self, name):
        """The path of a file in the folder."""
        return os.path.join(self.path, name)

    def claim(self):
        """Makes the folder that of the experiment, once it is sure to run."""
        write_json(self.file("config.json"), self._settings)

    def _lock_folder(self):
        try:
            os.makedirs(self.path, exist_ok=True)
            # Held as long as the process lives, whichever way it ends.
            self._lock = open(self.file(".lock"), "w")
        except OSError as error:
            raise ValueError(
                "Argument `workdir` must be a folder that can be written to. "
                f"Received: workdir={self.path} ({error.strerror})"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ValueError(
                "Argument `workdir` must be a folder that no other run is "
                f"using. Received: workdir={self.path}"
            ) from None

    def _check(self):
        path = self.file("config.json")
        if not os.path.exists(path):
            return
        try:
            with open(path) as file:
                stored = {**self._defaults, **json.load(file)}
            differing = [
                f"{name}={stored.get(name)} there, "
                f"{self._settings.get(name)} now"
                for name in {**stored, **self._settings}
                if stored.get(name) != self._settings.get(name)
            ]
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"The file {path} is damaged ({error}). Nothing was changed."
            ) from None
        if differing:
            raise ValueError(
                "Argument `workdir` must be a new folder or one of the same "
                f"experiment. Received: workdir={self.path}, which differs "
                f"in {'; '.join(differing)}"
            )

    def close(self):
        """Lets other runs have the folder."""
        self._lock.close()


@contextlib.contextmanager
def replacing(path):
    """Gives a name to write to that becomes `path` once all went well.

    Args:
        path: a file name; its ending is kept.

    Yields:
        The temporary name, in the same folder.
    """
    stem, ending = os.path.splitext(path)
    temporary = f"{stem}.tmp{ending}"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def write_json(path, value):
    """Writes a value as JSON, all or nothing."""
    with replacing(path) as temporary, open(temporary, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def write_text(path, text):
    """Writes a string, all or nothing."""
    with replacing(path) as temporary, open(temporary, "w") as file:
        file.write(text)


def write_results(folder, rows, text):
    """Writes what a study found: `RESULTS`, and a table for the pages.

    Args:
        folder: the path of a folder, which is made if it is not there.
        rows: what JSON can have.
        text: the table in Markdown, a string.
    """
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, RESULTS), rows)
    write_text(os.path.join(folder, "table.md"), text)
