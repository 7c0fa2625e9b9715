"""What a stopped `compress` goes on from."""

import dataclasses
import hashlib
import json
import os

import keras
import numpy as np
from keras import ops

from l0keras.callbacks import Checkpoint

GATES = "Gates"
TUNING = "Tuning"
_SETTINGS = "settings.json"
_CUT = "cut.npz"


class Backup:
    """The folder in which `compress` keeps what it has done so far.

    `settings.json` says what the call is about. Each training has a
    `callbacks.Checkpoint` of its own, and `cut.npz` has the model with gates
    as its training left it, and which of the gates the cut keeps.

    Args:
        folder: its path, made where it does not exist; `None` to keep nothing.
        **settings: the arguments of `compress` that must be the same for the
            work to go on, and whatever else must.

    Raises:
        ValueError: the folder cannot be written to, is damaged, or belongs to
            another call.
    """

    def __init__(self, folder, **settings):
        self._folder = folder
        if folder is None:
            return
        settings = {name: _told(value) for name, value in settings.items()}
        try:
            self._folder = os.fspath(folder)
            os.makedirs(self._folder, exist_ok=True)
            # A call that has kept nothing binds nobody.
            if self._has(_file(GATES)) or self._has(_CUT):
                self._check(settings)
            else:
                with open(self._draft(_SETTINGS), "w") as file:
                    json.dump(settings, file, indent=2)
                self._keep(_SETTINGS)
        except (TypeError, OSError) as error:
            raise ValueError(
                "Argument `backup_dir` must be a folder that can be written "
                f"to, or None. Received: backup_dir={folder!r} ({error})"
            ) from None

    def record(self, stage, shrinking=None):
        """A callback for a training, with the logs of all of its epochs.

        Args:
            stage: `GATES` or `TUNING`.
            shrinking: the `Shrinking` that trains, if there is one.

        Returns:
            A callback that has `resume(model)`, which returns a compiled model
            with the state to go on from and the number of finished epochs, and
            `logs`, a list of dictionaries.
        """
        if self._folder is None:
            return _Logs()
        return _Kept(self._path(_file(stage)), shrinking)

    def is_over(self, stage):
        """Whether a training need not be gone on with."""
        return self._folder is not None and stage == GATES and self._has(_CUT)

    def save_cut(self, gated, kept):
        """Keeps the trained model with gates and what its cut leaves.

        Args:
            gated: a `keras.Model`.
            kept: an array as of `cutting.cut.kept_gates`.
        """
        if self._folder is None:
            return
        values = {
            f"{index:05d}": ops.convert_to_numpy(variable)
            for index, variable in enumerate(gated.variables)
        }
        with open(self._draft(_CUT), "wb") as file:
            np.savez(file, kept=kept, **values)
        self._keep(_CUT)

    def load_cut(self, gated):
        """Gives a model what `save_cut` kept.

        Returns:
            `kept`, or `None` where nothing was kept.
        """
        if self._folder is None or not self._has(_CUT):
            return None
        with np.load(self._path(_CUT), allow_pickle=False) as archive:
            for index, variable in enumerate(gated.variables):
                variable.assign(archive[f"{index:05d}"])
            return archive["kept"]

    def remove(self):
        """Removes what was kept, and the folder if nothing else is in it."""
        if self._folder is None:
            return
        # The settings go last: they say whose the others are.
        for name in (_file(GATES), _file(TUNING), _CUT, _SETTINGS):
            for path in (self._path(name), self._draft(name)):
                if os.path.exists(path):
                    os.remove(path)
        if not os.listdir(self._folder):
            os.rmdir(self._folder)

    def _check(self, settings):
        try:
            with open(self._path(_SETTINGS)) as file:
                known = dict(json.load(file))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"The file {self._path(_SETTINGS)!r} is damaged ({error}). "
                "Remove the folder to begin anew."
            ) from None
        differing = [
            f"another {name}"
            if name in ("model", "teacher")
            else f"{name}={known.get(name)} instead of {settings.get(name)}"
            for name in {**known, **settings}
            if known.get(name) != settings.get(name)
        ]
        if differing:
            raise ValueError(
                "Argument `backup_dir` must be a new folder, or that of a call "
                "with the same model and arguments. Received: "
                f"backup_dir={self._folder!r}, of a call with "
                f"{'; '.join(differing)}"
            )

    def _has(self, name):
        return os.path.exists(self._path(name))

    def _path(self, name):
        return os.path.join(self._folder, name)

    def _draft(self, name):
        return f"{self._path(name)}.tmp"

    def _keep(self, name):
        os.replace(self._draft(name), self._path(name))


class _Logs(keras.callbacks.Callback):
    """The logs of a training that is not kept."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def resume(self, model):
        return model, 0

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs or {}))


class _Kept(Checkpoint):
    """The logs of a training that is kept."""

    @property
    def logs(self):
        own = ("epoch", "seconds")
        return [
            {name: value for name, value in row.items() if name not in own}
            for row in self.history
        ]


def _file(stage):
    return f"{stage.lower()}.npz"


def _told(value):
    """A text that is the same for equal values, also in other processes."""
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value):
    if isinstance(value, keras.Model):
        return _fingerprint(value)
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    # Of a function or a class, its name; of an object, that of its class.
    name = getattr(value, "__qualname__", type(value).__qualname__)
    try:
        config = dict(value.get_config())
    except (AttributeError, NotImplementedError):
        return name
    # Keras numbers names anew for each model.
    config.pop("name", None)
    return {name: config}


def _fingerprint(model):
    """What tells a model from others: its layers and the values of weights."""
    found = hashlib.sha256()
    for layer in model._flatten_layers(include_self=False):
        # The configuration of a model has the names of its layers in it.
        inner = isinstance(layer, keras.Model)
        found.update((type(layer).__name__ if inner else _told(layer)).encode())
    for weight in model.weights:
        value = ops.convert_to_numpy(weight)
        found.update(f"{value.shape} {weight.dtype}".encode())
        found.update(value.tobytes())
    return found.hexdigest()
