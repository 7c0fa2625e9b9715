"""The sizes of LiteRT files: bytes, and microseconds for one example."""

import os
import tempfile

import keras

from l0keras.graph.builder import functional_copy
from l0keras.graph.opening.may_open import is_functional
from l0keras.targets.latency.timing import timed


class Files:
    """Writes models as LiteRT files and weighs or times them.

    Args:
        target: a `Target` of `"bytes"` or `"latency"`.
        model: one of the models, whose inputs they all have.
        representative_data: as in `size_of`.
    """

    def __init__(self, target, model, representative_data=None):
        # Counting takes neither TensorFlow nor LiteRT.
        from l0keras.export import sample_shapes

        self._target = target
        self._shapes = None
        if target.of == "latency":
            model = _functional(model)
            self._shapes = sample_shapes(model, representative_data)
        # Where no ranges are needed, data would make another file.
        self._data = representative_data if target.needs_ranges else None

    def content(self, model):
        """The bytes of a model's file, which is not compared with it."""
        from l0keras.export import export_tflite
        from l0keras.export import random_inputs

        model, data = _functional(model), self._data
        if self._target.needs_ranges and data is None:
            data = random_inputs(model.inputs, examples=32)
        with guarded_folder("size-") as folder:
            path = os.path.join(folder, "model.tflite")
            options = self._target.quantization, data
            export_tflite(model, path, *options, check=False)
            with open(path, "rb") as file:
                return file.read()

    def sizes(self, contents):
        """How many bytes files have, or their microseconds, timed in turns."""
        if self._target.of == "bytes":
            return [len(content) for content in contents]
        with guarded_folder("size-") as folder:
            paths = []
            for index, content in enumerate(contents):
                paths.append(os.path.join(folder, f"{index}.tflite"))
                with open(paths[-1], "wb") as file:
                    file.write(content)
            return timed(paths, sample_shape=self._shapes)


def guarded_folder(prefix):
    """A temporary folder for a block, gone even if this process is.

    Args:
        prefix: how its name begins.
    """
    from l0keras.export.litert.worker import WORKER

    return WORKER.folder(prefix, tempfile.gettempdir())


def _functional(model):
    """The model, or for one with a `call` of its own a functional copy."""
    if not isinstance(model, keras.Model) or is_functional(model):
        return model
    return functional_copy(model)
