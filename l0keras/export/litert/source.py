"""Models that the converter reads, of Keras 3 or of tf_keras."""

import dataclasses
import tempfile

import keras
import numpy as np

from l0keras.export.litert.quantization import configure
from l0keras.export.litert.unroll import endless
from l0keras.export.litert.unroll import unrolled
from l0keras.gates import gates_of
from l0keras.graph.trace import as_functional
from l0keras.stripping.strip import strip


@dataclasses.dataclass(frozen=True)
class Input:
    """An input: its name, shape with `None` for free sizes, and dtype."""

    name: str
    shape: tuple
    dtype: str


def source(model):
    """Prepares a model for the converter and does not change it.

    Args:
        model: a Keras 3 model, with gates or without, or a `tf_keras.Model`.

    Returns:
        A `Source`.

    Raises:
        ValueError: the model is not functional or not built, has weights that
            are not finite, or its backend is not TensorFlow.
    """
    kinds = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    if "tf_keras" in kinds:
        return TFKerasSource(model)
    as_functional(model)
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "LiteRT files are written with the TensorFlow backend only; save "
            "the model and load it under KERAS_BACKEND=tensorflow. Received: "
            f"backend {keras.backend.backend()!r}"
        )
    return KerasSource(strip(model) if gates_of(model) else model)


class Source:
    """A model to convert.

    Args:
        model: the model.
        inputs: its `Input`s, in their order.
        weights: pairs of the path and the array of each weight.

    Attributes:
        name: the model's name.
        outputs: the names of the outputs, in their order.
        layers: the names of all layers, with those in nested models.
        has_ranges: whether the model has learned the ranges of its tensors.
    """

    has_ranges = False

    def __init__(self, model, inputs, weights):
        self.model = model
        self.name = model.name
        self.inputs = inputs
        for path, array in weights:
            if not np.all(np.isfinite(np.asarray(array, "float64"))):
                raise ValueError(
                    "Argument `model` must have finite weights. Received: NaN "
                    f"or infinity in '{path}'"
                )

    @property
    def half_precision(self):
        """Whether a layer computes in less than float32."""
        return any(
            "16" in str(getattr(layer, "compute_dtype", "float32"))
            for layer in self.flat_layers
        )

    @property
    def endless(self):
        """The names of recurrent layers whose number of steps is free."""
        return endless(self.flat_layers)

    @property
    def layers(self):
        return [layer.name for layer in self.flat_layers]

    def outputs_for(self, inputs):
        """Runs the model.

        Args:
            inputs: a dictionary of arrays by the names of the inputs.

        Returns:
            A dictionary of arrays by the names of the outputs.
        """
        outputs = self.call([inputs[one.name] for one in self.inputs])
        return {name: np.asarray(y) for name, y in outputs.items()}

    def convert(self, settings, batch_size=None):
        """Converts the model.

        Args:
            settings: the settings from `converter_settings`.
            batch_size: the batch size of the file, or `None` for any.

        Returns:
            The bytes of a LiteRT file. Its signature has the names of the
            inputs and outputs.
        """
        import tensorflow as tf

        with tempfile.TemporaryDirectory(prefix="saved-model-") as folder:
            # Loops make smaller files, and for many steps faster ones, but
            # LiteRT does not support them in all files.
            can_loop = batch_size is not None and not settings["optimizations"]
            with unrolled([] if can_loop else self.flat_layers):
                self.save(folder, self._signature(batch_size))
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            configure(converter, settings)
            # As in Keras: recurrent layers keep states in variables.
            converter.experimental_enable_resource_variables = True
            return converter.convert()

    def _signature(self, batch_size):
        import tensorflow as tf

        return [
            tf.TensorSpec((batch_size, *one.shape[1:]), one.dtype, one.name)
            for one in self.inputs
        ]


class KerasSource(Source):
    """A plain functional model of Keras 3."""

    def __init__(self, model):
        functional = as_functional(model)
        super().__init__(
            model,
            [
                Input(
                    tensor.name,
                    tuple(tensor.shape),
                    keras.backend.standardize_dtype(tensor.dtype),
                )
                for tensor in functional.inputs
            ],
            [
                (weight.path, keras.ops.convert_to_numpy(weight))
                for weight in model.weights
            ],
        )
        self.outputs = _output_names(functional)
        outputs = dict(zip(self.outputs, functional.outputs, strict=True))
        # The same layers with the names of the file's outputs.
        self._named = keras.Model(
            functional.inputs, outputs, name=functional.name
        )

    @property
    def flat_layers(self):
        return list(self._named._flatten_layers(include_self=False))

    def call(self, inputs):
        outputs = self._named(inputs, training=False)
        return {
            name: keras.ops.convert_to_numpy(output)
            for name, output in outputs.items()
        }

    def save(self, folder, signature):
        archive = keras.export.ExportArchive()
        archive.track(self._named)
        archive.add_endpoint(
            "serve",
            lambda inputs: self._named(inputs, training=False),
            input_signature=[signature],
        )
        archive.write_out(folder, verbose=False)


class TFKerasSource(Source):
    """A functional `tf_keras.Model`, such as the bridge to tfmot makes."""

    def __init__(self, model):
        super().__init__(
            model,
            [
                Input(tensor.name, tuple(tensor.shape), tensor.dtype.name)
                for tensor in model.inputs
            ],
            [(weight.name, weight.numpy()) for weight in model.weights],
        )
        self.outputs = _unique(model.output_names)
        self.has_ranges = any(
            type(layer).__name__.startswith("Quantize")
            for layer in self.flat_layers
        )

    @property
    def flat_layers(self):
        return list(self.model._flatten_layers(include_self=False))

    def call(self, inputs):
        import tensorflow as tf

        inputs = [tf.convert_to_tensor(array) for array in inputs]
        packed = tf.nest.pack_sequence_as(self.model.input, inputs)
        outputs = tf.nest.flatten(self.model(packed, training=False))
        return dict(zip(self.outputs, outputs, strict=True))

    def save(self, folder, signature):
        import tensorflow as tf

        function = tf.function(lambda *inputs: self.call(inputs), signature)
        tf.saved_model.save(self.model, folder, function)


def _output_names(functional):
    if isinstance(functional.output, dict):
        flat = keras.tree.flatten(functional.output)
        if len(flat) == len(functional.output):
            # `flatten` sorts the keys.
            return sorted(functional.output)
    return _unique(functional.output_names)


def _unique(names):
    """Makes names unique by numbers at their ends."""
    found = {}
    for name in names:
        new, count = name, 0
        while new in found:
            count += 1
            new = f"{name}_{count}"
        found[new] = None
    return list(found)
