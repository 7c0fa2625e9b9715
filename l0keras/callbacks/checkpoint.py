import contextlib
import json
import os
import time
import zipfile
import zlib

import keras
import numpy as np
from keras import ops

from l0keras.callbacks.raise_on_nan import NonFiniteError


class CheckpointError(ValueError):
    """A checkpoint is damaged or belongs to another model."""


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of training after each epoch, in one file.

    The file has all variables of the model and its optimizer, with averages
    and the states of seed generators (of gates and dropout), and the logs of
    all epochs so far. Each save replaces the file in one step, so a killed
    run keeps the last whole epoch. A resumed run computes the same as a run
    without a break.

    `keras.callbacks.BackupAndRestore` saves no states of seed generators, so
    a resumed run draws other noise; and it writes in place, so a run that is
    killed while it saves loses everything.

    Args:
        path: the name of the file, ending in `.npz`.
        shrinking: the `l0keras.Shrinking` that trains the model, `None` where
            it is not cut in its training. What it knows is saved, too.

    Raises:
        ValueError: `path` does not end in `.npz`.
        NonFiniteError: from `fit`, if a variable is NaN or infinite at the
            end of an epoch; the file keeps the epoch before.

    Example:

    >>> checkpoint = Checkpoint("run/checkpoint.npz")
    >>> done = checkpoint.restore(model)
    >>> model.fit(x, y, epochs=9, initial_epoch=done, callbacks=[checkpoint])
    """

    def __init__(self, path, shrinking=None):
        super().__init__()
        self.path = os.fspath(path)
        self._shrinking = shrinking
        if not self.path.endswith(".npz"):
            raise ValueError(
                "Argument `path` must end in '.npz'. "
                f"Received: path={self.path!r}"
            )
        # One dict for each finished epoch: "epoch" (from 1), "seconds" since
        # the epoch before, and logs.
        self.history = []
        self._ended = None

    def resume(self, model):
        """Cuts a model as it was cut, and gives it the saved state.

        Args:
            model: a built and compiled model, as it was before training.

        Returns:
            The model to go on with, and the number of finished epochs: `model`
            itself and 0 without a file.

        Raises:
            CheckpointError: as `restore`.

        Example:

        >>> checkpoint = Checkpoint("run/checkpoint.npz", shrinking)
        >>> model, done = checkpoint.resume(model)
        >>> model = shrinking.fit(
        ...     model,
        ...     {"x": x, "y": y},
        ...     epochs=9,
        ...     initial_epoch=done,
        ...     callbacks=[checkpoint],
        ... )
        """
        saved = self._saved()
        if self._shrinking is not None and saved is not None:
            try:
                state = saved[0].get("shrinking")
                model = self._shrinking.restore(model, state)
            except (TypeError, ValueError, KeyError) as error:
                raise CheckpointError(
                    f"The checkpoint {self.path!r} belongs to another model, "
                    f"or to a training without cuts: {error}"
                ) from error
        return model, self._give(model, saved)

    def restore(self, model):
        """Gives a model the saved state; without a file it stays the same.

        Args:
            model: a built and compiled model.

        Returns:
            The number of finished epochs, for the argument `initial_epoch`
            of `fit`: 0 without a file.

        Raises:
            CheckpointError: the file is damaged or belongs to another model.
        """
        return self._give(model, self._saved())

    def _saved(self):
        """What is in the file, see `_read`; `None` without one."""
        return _read(self.path) if os.path.exists(self.path) else None

    def _give(self, model, saved):
        variables = _variables(model)
        if saved is None:
            self.history = []
            return 0
        meta, values = saved
        shapes = [tuple(variable.shape) for variable in variables]
        if [value.shape for value in values] != shapes:
            raise CheckpointError(
                f"The checkpoint {self.path!r} belongs to another model: it "
                f"has {len(values)} variables, this model and its optimizer "
                f"have {len(shapes)}, or their shapes differ."
            )
        for variable, value in zip(variables, values):
            variable.assign(value)
        self.history = meta["history"]
        return len(self.history)

    def on_train_begin(self, logs=None):
        self._ended = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        ended = time.perf_counter()
        row = {"epoch": epoch + 1, "seconds": ended - self._ended}
        self._ended = ended
        for name, value in (logs or {}).items():
            row[name] = value if isinstance(value, int) else float(value)
        variables = _variables(self.model)
        values = [ops.convert_to_numpy(variable) for variable in variables]
        for variable, value in zip(variables, values):
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise NonFiniteError(
                    f"The variable {variable.path!r} is not finite at the "
                    f"end of epoch {epoch + 1}."
                )
        self.history.append(row)
        meta = {"history": self.history}
        if self._shrinking is not None:
            meta["shrinking"] = self._shrinking.state()
        _write(self.path, meta, values)


def _variables(model):
    optimizer = model.optimizer
    if not optimizer.built:
        strategy = getattr(model, "distribute_strategy", None)
        with strategy.scope() if strategy else contextlib.nullcontext():
            optimizer.build(model.trainable_variables)
    return [*model.variables, *optimizer.variables]


def _write(path, meta, values):
    arrays = {f"{index:05d}": value for index, value in enumerate(values)}
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            np.savez(file, meta=np.array(json.dumps(meta)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _read(path):
    try:
        # Of a damaged file that it opens itself, numpy leaves the handle open.
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            meta = json.loads(str(archive["meta"]))
            names = sorted(name for name in archive.files if name != "meta")
            return meta, [archive[name] for name in names]
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise CheckpointError(
            f"The checkpoint {path!r} is damaged ({error}). Nothing was "
            "changed. Remove it to train from the beginning."
        ) from error
