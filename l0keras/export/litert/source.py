"""Models that the converter reads, of Keras 3 or of tf_keras."""

import contextlib
import dataclasses
import re
import tempfile

import keras
import numpy as np

from l0keras.export.litert import jobs
from l0keras.export.litert.attributes import attributes
from l0keras.export.litert.full_precision import check_dtypes
from l0keras.export.litert.full_precision import full_precision
from l0keras.export.litert.full_precision import is_half
from l0keras.export.litert.lowering import lowered
from l0keras.export.litert.lowering import operations
from l0keras.export.litert.lowering import steps
from l0keras.export.litert.rounded import rounded
from l0keras.export.litert.run_tflite import full_batch
from l0keras.export.litert.worker import WORKER
from l0keras.gates import gates_of
from l0keras.graph.trace import as_functional
from l0keras.stripping.strip import strip


@dataclasses.dataclass(frozen=True)
class Input:
    """An input of a model.

    Attributes:
        name: its name.
        shape: its shape with `None` for free sizes.
        dtype: its dtype, a string.
        limit: how many numbers an embedding knows that reads it, or `None`.
    """

    name: str
    shape: tuple
    dtype: str
    limit: int | None = None


def source(model, target=None):
    """Prepares a model for the converter and does not change it.

    Args:
        model: a Keras 3 model, with gates or without, or a `tf_keras.Model`.
        target: as in `export_tflite`.

    Returns:
        A `Source`.

    Raises:
        ValueError: the model is not functional or not built, has weights that
            are not finite, computes in numbers that LiteRT has not, or its
            backend is not TensorFlow.
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
    return KerasSource(strip(model) if gates_of(model) else model, target)


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
        operations: the names of all that computes: those and the operations
            of graphs.
        has_ranges: whether the model has learned the ranges of its tensors.
        states: the names of inputs that are states, see `StepSource`.
        endless: the names of recurrent layers with a free number of steps.
        stateful: the names of recurrent layers that keep their states.
        target: as in `export_tflite`.
    """

    has_ranges = False
    target = None
    states = ()
    endless = ()
    stateful = ()

    def __init__(self, model, inputs, weights):
        self.model = model
        self.name = model.name
        self.inputs = inputs
        check_dtypes(inputs, self.flat_layers)
        for path, array in weights:
            if not np.all(np.isfinite(np.asarray(array, "float64"))):
                raise ValueError(
                    "Argument `model` must have finite weights. Received: NaN "
                    f"or infinity in '{path}'"
                )

    @property
    def half_precision(self):
        """Whether a layer computes in less than float32."""
        return any(map(is_half, self.flat_layers))

    @property
    def layers(self):
        return [layer.name for layer in self.flat_layers]

    @property
    def operations(self):
        return self.layers

    def layers_of(self, kind):
        """The layers of a class of Keras 3, a list."""
        return [one for one in self.flat_layers if isinstance(one, kind)]

    def batch_size(self, wanted=None):
        """The number of examples in a batch of the file, or `None` for any.

        Args:
            wanted: what was asked for.

        Raises:
            ValueError: the model's graph has another one.
        """
        sizes = {one.shape[0] for one in self.inputs} - {None}
        if wanted is not None and sizes - {wanted}:
            raise ValueError(
                "Argument `batch_size` must be that of the model's inputs. "
                f"Received: batch_size={wanted!r}, and inputs in batches of "
                f"{min(sizes)}"
            )
        return wanted or min(sizes, default=None)

    def outputs_for(self, inputs, batch_size):
        """Runs the model, in float32 as the file does.

        Args:
            inputs: a dictionary of arrays by the names of the inputs.
            batch_size: the number of examples in a batch.

        Returns:
            A dictionary of arrays by the names of the outputs.
        """
        with full_precision(self.flat_layers):
            return self.own_outputs_for(inputs, batch_size)

    def own_outputs_for(self, inputs, batch_size):
        """Runs the model as it is, see `outputs_for`."""
        return self._in_batches(self.call, inputs, batch_size)

    def rounded_outputs_for(self, inputs, bits, batch_size):
        """Runs the model with weights of so many bits, see `outputs_for`.

        Returns:
            A dictionary, or `None` for a model whose weights are rounded
            anyway.
        """
        return None

    def _in_batches(self, call, inputs, batch_size):
        examples = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, examples, batch_size):
            batch = [
                inputs[one.name][start : start + batch_size]
                for one in self.inputs
            ]
            if self.batch_size():
                batch = [full_batch(array, batch_size) for array in batch]
            with self.fresh():
                parts.append(call(batch))
        return {
            name: np.concatenate([part[name] for part in parts])[:examples]
            for name in self.outputs
        }

    def convert(
        self, path, quantization, examples, sparse_encoding, batch_size=None
    ):
        """Writes the model as a LiteRT file, in the process of the worker.

        Args:
            path: the path of the file.
            quantization, examples, sparse_encoding: see `converter_settings`.
            batch_size: the batch size of the file, or `None` for any. The
                signature of the file has the names of the inputs and outputs.
        """
        with WORKER.folder("saved-model-", tempfile.gettempdir()) as folder:
            saved = self.saved_names()
            with self.as_in_file(quantization):
                self.save(folder, self._signature(batch_size, saved), saved)
            if examples is not None:
                examples = [
                    {saved[name]: array for name, array in one.items()}
                    for one in examples
                ]
            names = {new: name for name, new in saved.items() if new != name}
            WORKER.run(
                *(jobs.convert, folder, path, names),
                *(quantization, examples, sparse_encoding),
            )

    def saved_names(self):
        """Names that a saved model can have, by those of inputs and outputs.

        TensorFlow changes names of other characters, or refuses them.
        """
        names = [*(one.name for one in self.inputs), *self.outputs]
        names = list(dict.fromkeys(names))
        fine = [
            name if re.fullmatch("[A-Za-z]\\w*", name, re.A) else f"tensor_{i}"
            for i, name in enumerate(names)
        ]
        return dict(zip(names, unique(fine), strict=True))

    def sample_shapes(self, shapes):
        """The shapes of one example of the file's inputs.

        Args:
            shapes: those of the model's inputs by their names.
        """
        return shapes

    def as_in_file(self, quantization):
        """A context in which the layers compute as the file is to do."""
        return full_precision(self.flat_layers)

    def fresh(self):
        """A context in which no layer keeps its state."""
        return contextlib.nullcontext()

    def parts(self):
        """The model up to each of its layers, in the order of its graph.

        Returns:
            A list of pairs: a layer, and a function that makes a `Source`.
        """
        return []

    def _signature(self, batch_size, names):
        import tensorflow as tf

        return [
            tf.TensorSpec(
                (batch_size, *one.shape[1:]), one.dtype, names[one.name]
            )
            for one in self.inputs
        ]


class KerasSource(Source):
    """A plain functional model of Keras 3.

    Args:
        model: the model.
        target: as in `export_tflite`.
    """

    def __init__(self, model, target=None):
        self.target = target
        functional = as_functional(model)
        self.outputs = _output_names(functional)
        outputs = dict(zip(self.outputs, functional.outputs, strict=True))
        # The same layers with the names of the file's outputs.
        self._named = keras.Model(
            functional.inputs, outputs, name=functional.name
        )
        super().__init__(
            model,
            [
                Input(
                    tensor.name,
                    tuple(tensor.shape),
                    keras.backend.standardize_dtype(tensor.dtype),
                    _vocabulary(tensor, functional),
                )
                for tensor in functional.inputs
            ],
            [
                (weight.path, keras.ops.convert_to_numpy(weight))
                for weight in model.weights
            ],
        )

    @property
    def flat_layers(self):
        return list(self._named._flatten_layers(include_self=False))

    @property
    def operations(self):
        return [one.name for one in operations(self._named)]

    @property
    def endless(self):
        return [
            layer.name
            for layer in self.layers_of(keras.layers.RNN)
            if steps(layer) is None
        ]

    @property
    def stateful(self):
        return [
            layer.name
            for layer in self.layers_of(keras.layers.RNN)
            if layer.stateful
        ]

    @contextlib.contextmanager
    def as_in_file(self, quantization):
        forms = lowered(self._named, quantization, self.target)
        with super().as_in_file(quantization), forms:
            yield

    def fresh(self):
        return attributes(
            [
                (one, "stateful", False)
                for one in self.layers_of(keras.layers.RNN)
            ]
        )

    def parts(self):
        nodes = [
            node
            for depth in sorted(self._named._nodes_by_depth, reverse=True)
            for node in self._named._nodes_by_depth[depth]
            if not node.is_input
        ]
        inputs = self._named.inputs
        return [
            (
                node.operation,
                lambda node=node: KerasSource(
                    keras.Model(inputs, list(node.outputs)), self.target
                ),
            )
            for node in nodes
        ]

    def call(self, inputs):
        return {
            name: keras.ops.convert_to_numpy(output)
            for name, output in self.tensors(inputs).items()
        }

    def rounded_outputs_for(self, inputs, bits, batch_size):
        model = self._named
        weights = [
            [rounded(keras.ops.convert_to_numpy(one), bits) for one in some]
            for some in (
                model.trainable_variables,
                model.non_trainable_variables,
            )
        ]

        def call(batch):
            outputs, _ = model.stateless_call(*weights, batch, training=False)
            return {
                name: keras.ops.convert_to_numpy(output)
                for name, output in outputs.items()
            }

        with full_precision(self.flat_layers):
            return self._in_batches(call, inputs, batch_size)

    def tensors(self, inputs):
        """The outputs by their names, as tensors.

        Args:
            inputs: arrays or tensors, in the order of the inputs.
        """
        return self._named(inputs, training=False)

    def save(self, folder, signature, names):
        def serve(inputs):
            outputs = self.tensors(inputs)
            return {names[name]: output for name, output in outputs.items()}

        archive = keras.export.ExportArchive()
        archive.track(self._named)
        archive.add_endpoint("serve", serve, input_signature=[signature])
        archive.write_out(folder, verbose=False)


class TFKerasSource(Source):
    """A functional `tf_keras.Model`, such as the bridge to tfmot makes."""

    def __init__(self, model):
        self._layers = list(model._flatten_layers(include_self=False))
        super().__init__(
            model,
            [
                Input(tensor.name, tuple(tensor.shape), tensor.dtype.name)
                for tensor in model.inputs
            ],
            [(weight.name, weight.numpy()) for weight in model.weights],
        )
        self.outputs = unique(model.output_names)
        self.has_ranges = any(
            type(layer).__name__.startswith("Quantize")
            for layer in self.flat_layers
        )

    @property
    def flat_layers(self):
        return self._layers

    def call(self, inputs):
        import tensorflow as tf

        inputs = [tf.convert_to_tensor(array) for array in inputs]
        packed = tf.nest.pack_sequence_as(self.model.input, inputs)
        outputs = tf.nest.flatten(self.model(packed, training=False))
        return dict(zip(self.outputs, outputs, strict=True))

    def save(self, folder, signature, names):
        import tensorflow as tf

        def serve(*inputs):
            outputs = self.call(inputs)
            return {names[name]: output for name, output in outputs.items()}

        function = tf.function(serve, signature)
        tf.saved_model.save(self.model, folder, function)


def _vocabulary(tensor, functional):
    """The least number of rows of an embedding that reads an input."""
    return min(
        (
            operation.input_dim
            for operation in functional.operations
            if isinstance(operation, keras.layers.Embedding)
            for node in operation._inbound_nodes
            if any(one is tensor for one in node.input_tensors)
        ),
        default=None,
    )


def _output_names(functional):
    if isinstance(functional.output, dict):
        flat = keras.tree.flatten(functional.output)
        if len(flat) == len(functional.output):
            # `flatten` sorts the keys.
            return sorted(functional.output)
    return unique(functional.output_names)


def unique(names):
    """Makes names unique by numbers at their ends."""
    found = {}
    for name in names:
        new, count = name, 0
        while new in found:
            count += 1
            new = f"{name}_{count}"
        found[new] = None
    return list(found)
