"""The sizes of LiteRT files: bytes, and microseconds for one example."""

import os
import tempfile

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
        from l0keras.export import QUANTIZATIONS
        from l0keras.export import random_inputs
        from l0keras.export import sample_shapes

        self._target = target
        self._shapes = None
        if target.of == "latency":
            self._shapes = sample_shapes(model, representative_data)
        # Where no ranges are needed, data would make another file.
        if not QUANTIZATIONS[target.quantization].needs_data:
            representative_data = None
        elif representative_data is None:
            representative_data = random_inputs(model.inputs, examples=32)
        self._data = representative_data

    def content(self, model):
        """The bytes of a model's file, which is not compared with it."""
        from l0keras.export import export_tflite

        with tempfile.TemporaryDirectory(prefix="size-") as folder:
            path = os.path.join(folder, "model.tflite")
            options = self._target.quantization, self._data
            export_tflite(model, path, *options, check=False)
            with open(path, "rb") as file:
                return file.read()

    def sizes(self, contents):
        """How many bytes files have, or their microseconds, timed in turns."""
        if self._target.of == "bytes":
            return [len(content) for content in contents]
        with tempfile.TemporaryDirectory(prefix="size-") as folder:
            paths = []
            for index, content in enumerate(contents):
                paths.append(os.path.join(folder, f"{index}.tflite"))
                with open(paths[-1], "wb") as file:
                    file.write(content)
            return timed(paths, sample_shape=self._shapes)
