"""Step models: one step of a sequence at a time, with the states outside."""

import keras
import numpy as np

from l0keras.export.litert.attributes import attributes
from l0keras.export.litert.compare import random_inputs
from l0keras.export.litert.full_precision import full_precision
from l0keras.export.litert.loops import where
from l0keras.export.litert.source import Input
from l0keras.export.litert.source import KerasSource
from l0keras.export.litert.source import unique

# Ranges of tensors are measured on so many steps, at most.
MAX_STEPS = 2000
# Steps of the sequences that step model and model are compared on.
_STEPS = 5
_TOLERANCE = 1e-4


class StepSource(KerasSource):
    """One step of a model with recurrent layers.

    Each input is that of the model, with a single step. Then come the states
    of all recurrent layers, which are outputs too, after the step. They have
    the names of their layers, `_state_` and a number.

    Args:
        whole: the `KerasSource` of the model for whole sequences.

    Attributes:
        states: the names of the states, a list.
        sequential: the names of the outputs that have a number for each step.

    Raises:
        ValueError: the model has no recurrent layer, or an input without
            steps, or a layer that looks at several steps at once.
    """

    def __init__(self, whole):
        super().__init__(whole.model, whole.target)
        recurrent = self.layers_of(keras.layers.RNN)
        if not recurrent or min(len(one.shape) for one in self.inputs) < 2:
            raise ValueError(
                "Argument `streaming` must be False for models without "
                "recurrent layers, or with inputs that have no steps. "
                f"Received: streaming=True, model '{self.name}'"
            )
        self._sequences = self.inputs
        self._states = {}
        self.states = []
        inputs = [
            Input(
                *(one.name, (one.shape[0], 1, *one.shape[2:])),
                *(one.dtype, one.limit),
            )
            for one in self.inputs
        ]
        for layer in recurrent:
            initial = layer.get_initial_state(1)
            flat = keras.tree.flatten(initial)
            names = [f"{layer.name}_state_{i}" for i in range(len(flat))]
            self._states[layer] = initial, names
            self.states += names
            inputs += [
                Input(name, (self.batch_size(), *state.shape[1:]), "float32")
                for name, state in zip(names, flat, strict=True)
            ]
        self.inputs = inputs
        self.sequential = self._checked()
        self.outputs = [*self.outputs, *self.states]
        names = [one.name for one in inputs], self.outputs
        if any(unique(some) != some for some in names):
            raise ValueError(
                "Argument `model` must have no inputs or outputs with the "
                f"names of states. Received: inputs {names[0]} and outputs "
                f"{names[1]}"
            )

    def tensors(self, inputs):
        arrays = {one.name: x for one, x in zip(self.inputs, inputs)}
        states = {name: arrays.pop(name) for name in self.states}
        after = {}
        with self._one_step(states, after):
            # Not by `__call__`, which wants the number of steps of the model.
            outputs = self._named.call(list(arrays.values()), training=False)
        return {**outputs, **after}

    def zeros(self, examples):
        """The states before the first step, a dictionary of arrays."""
        return {
            one.name: np.zeros((examples, *one.shape[1:]), one.dtype)
            for one in self.inputs
            if one.name in self.states
        }

    def sample_shapes(self, shapes):
        shapes = {name: (1, *shape[1:]) for name, shape in shapes.items()}
        return shapes | {
            one.name: one.shape[1:]
            for one in self.inputs
            if one.name in self.states
        }

    def steps_of(self, groups):
        """Single steps of sequences, on which ranges are measured.

        Args:
            groups: a list of dictionaries of arrays by the names of the
                inputs of the model, for whole sequences.

        Returns:
            A list of dictionaries of arrays `(1, ...)` by the names of all
            inputs: `MAX_STEPS` evenly spread ones, or all.
        """
        found = []
        for group in groups:
            examples, steps = next(iter(group.values())).shape[:2]
            states = self.zeros(examples)
            for time in range(steps):
                step = {n: a[:, time : time + 1] for n, a in group.items()}
                step |= states
                found += [
                    {name: array[i : i + 1] for name, array in step.items()}
                    for i in range(examples)
                ]
                outputs = self.outputs_for(step, self.batch_size() or examples)
                states = {name: outputs[name] for name in self.states}
        return found[:: -(-len(found) // MAX_STEPS)]

    def parts(self):
        # A part of a model has no states of layers behind it.
        return []

    def _one_step(self, states, after):
        """A context in which recurrent layers make one step.

        Args:
            states: the states before the step, tensors by name.
            after: a dictionary that gets the states after the step.
        """
        changes = []
        for layer, (initial, names) in self._states.items():
            before = [states[name] for name in names]
            loop = _step_of(layer, initial, before, names, after)
            changes += [(layer, "inner_loop", loop), (layer, "stateful", False)]
        for layer in self.layers_of(keras.Model):
            # They were built for the number of steps of whole sequences.
            changes.append(
                (layer, "_assert_input_compatibility", lambda *args: None)
            )
        return attributes(changes)

    def _checked(self):
        """Compares all layers, and gives the names of sequential outputs."""
        shapes = {
            one.name: (one.shape[1] or _STEPS, *one.shape[2:])
            for one in self._sequences
        }
        lengths = {shape[0] for shape in shapes.values()}
        if len(lengths) > 1 or lengths == {1}:
            raise ValueError(
                "Argument `model` must have the same number of steps in all "
                "inputs, at least 2, for `streaming=True`. Received: inputs "
                f"{ {one.name: one.shape for one in self._sequences} }"
            )
        (length,) = lengths
        examples = self.batch_size() or 2
        data = random_inputs(self._sequences, examples)
        data = [array[:, :length] for array in data.values()]
        states = self.zeros(examples)
        steps = []
        with full_precision(self.flat_layers):
            with self.fresh():
                outputs, whole = self._recorded(data)
            for time in range(length):
                after = {}
                with self._one_step(states, after):
                    inputs = [array[:, time : time + 1] for array in data]
                    last, found = self._recorded(inputs, whole)
                steps.append(found)
                states = after
        for operation, *arrays in zip(self._order, whole, *steps, strict=True):
            if not all(map(_same, *arrays)):
                raise _mixes_steps(operation)
        return [
            name
            for name, array in outputs.items()
            if array.shape[1:2] == (length,) and last[name].shape[1] == 1
        ]

    def _recorded(self, inputs, whole=None):
        """The outputs of the model, and those of each of its layers.

        Args:
            inputs: arrays, in the order of the inputs.
            whole: for a step those for whole sequences, which must fit.
        """
        order, found = [], []

        def recorder(operation):
            def call(*args, **kwargs):
                try:
                    outputs = operation(*args, **kwargs)
                except Exception as error:
                    raise _mixes_steps(operation) from error
                arrays = [
                    keras.ops.convert_to_numpy(tensor)
                    for tensor in keras.tree.flatten(outputs)
                ]
                if whole and not all(map(_fits, whole[len(found)], arrays)):
                    # Before a layer that reads it fails.
                    raise _mixes_steps(operation)
                order.append(operation)
                found.append(arrays)
                return outputs

            return call

        outputs = self._named._run_through_graph(inputs, recorder)
        self._order = order
        return outputs, found


def _step_of(layer, initial, before, names, after):
    """An `inner_loop` of a recurrent layer that makes one step."""

    def loop(sequences, initial_state, mask, training=False):
        states = keras.tree.pack_sequence_as(initial, before)
        output, new = layer.cell(sequences[:, 0], states)
        new = keras.tree.flatten(new)
        if mask is not None:
            # Keras's cells give out their first state.
            is_open = keras.ops.cast(mask[:, 0], "bool")
            output = where(is_open, output, before[0])
            new = [where(is_open, n, b) for n, b in zip(new, before)]
        after.update(zip(names, new, strict=True))
        new = keras.tree.pack_sequence_as(initial, new)
        return output, output[:, None], new

    return loop


def _fits(whole, step):
    """Whether the output of a step has the shape of one in a sequence."""
    sizes = list(zip(whole.shape, step.shape))
    return whole.ndim == step.ndim and (
        whole.shape == step.shape
        or (whole.ndim > 1 and step.shape[1] == 1)
        and all(a == b for i, (a, b) in enumerate(sizes) if i != 1)
    )


def _same(whole, *steps):
    """Whether steps make the outputs of a layer for whole sequences."""
    last = steps[-1]
    if whole.shape != last.shape:
        last = np.concatenate(steps, 1)
    return whole.shape == last.shape and np.allclose(
        last, whole, _TOLERANCE, _TOLERANCE * max(1, np.abs(whole).max())
    )


def _mixes_steps(operation):
    return ValueError(
        "Argument `streaming` must be False for models in which another layer "
        "than a recurrent one looks at several steps at once, or a recurrent "
        "one at later steps or at states that it is given. Received: "
        f"streaming=True, '{operation.name}' ({type(operation).__name__})"
    )
