import contextlib

import keras
from keras import ops

from l0keras import activations
from l0keras.layers.gated_layer import GatedLayer
from l0keras.layers.gated_weight import GatedWeight


class GatedCell:
    """What a recurrent cell needs to be told of the gates during a call.

    Derive from this class and a Keras cell, in that order. The cell computes
    as ever, but from a gated recurrent kernel; with gates for each example it
    is for the subclass to multiply the states in front of that kernel.
    """

    _kernel_in_use = None
    _gates_per_example = None

    @property
    def recurrent_kernel(self):
        if self._kernel_in_use is not None:
            return self._kernel_in_use
        return self._recurrent_kernel

    @recurrent_kernel.setter
    def recurrent_kernel(self, variable):
        self._recurrent_kernel = variable

    @property
    def has_gated_kernel(self):
        return self._kernel_in_use is not None

    @contextlib.contextmanager
    def gated(self, gates, per_example):
        """Applies gates in all steps of one call, as dropout masks are."""
        try:
            if per_example:
                self._gates_per_example = gates
            else:
                # Once, and not again in each time step.
                kernel = ops.convert_to_tensor(self._recurrent_kernel)
                self._kernel_in_use = kernel * ops.expand_dims(gates, -1)
            yield
        finally:
            self._kernel_in_use = None
            self._gates_per_example = None


class GatedRNN(GatedLayer):
    """What the gated recurrent layers share.

    It is the plain layer with the recurrent kernel's row of each unit, and
    all that the layer gives out of that unit, multiplied by its gate. So a
    closed unit is read neither by the next step nor by the next layer. All
    time steps of a call have the same gates.

    Layers whose units go together, such as an encoder and a decoder that
    starts from its states, may be given the gates of one `SharedGate` in each
    call. They then have none of their own.
    """

    granularities = ("output",)
    default_granularity = "output"
    plain_has_seed = True
    cell_class = None
    # Arguments that Keras leaves out of the layer's configuration.
    left_out_of_config = ("use_cudnn", "implementation")
    # The axis of the units in all outputs.
    units_axis = -1

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # The Keras layer makes its cell itself, and one made anew from the
        # cell's config would lose what that does not keep.
        self.cell.__class__ = self.cell_class

    # Where it allows cuDNN, fused code reads the kernels off the cell. That
    # is right while the cell has a gated one. It is wrong with gates for each
    # example, and in `Bidirectional`, which goes around this layer's `call`.
    @property
    def use_cudnn(self):
        return self._use_cudnn if self.cell.has_gated_kernel else False

    @use_cudnn.setter
    def use_cudnn(self, value):
        self._use_cudnn = value

    def build(
        self, sequences_shape, initial_state_shape=None, gates_shape=None
    ):
        super().build(sequences_shape, initial_state_shape)
        self._sequences_shape = tuple(sequences_shape)
        if gates_shape is None:
            self._build_gate()

    @property
    def mixes_units(self):
        """Whether a unit is seen by others though nobody reads its state."""
        functions = [self.cell.activation]
        functions.append(getattr(self.cell, "recurrent_activation", None))
        return not all(map(activations.is_elementwise, functions))

    def gated_weights(self):
        cell = self.cell
        weights = [
            self.into_units(cell.kernel),
            GatedWeight(cell._recurrent_kernel, axes=(-2,)),
        ]
        if cell.use_bias:
            weights.append(self.into_units(cell.bias))
        return weights

    def into_units(self, weight):
        *others, columns = weight.shape
        units = self.cell.recurrent_kernel.shape[-2]
        return GatedWeight(
            weight,
            axes=() if self.mixes_units else (-1,),
            # Keras has the columns of all units for one gate of the cell,
            # then those for the next.
            view=(*others, columns // units, units),
            # Of no use without the unit, but only the unit itself is scaled.
            scaled=False,
        )

    def call(
        self,
        sequences,
        initial_state=None,
        mask=None,
        training=False,
        gates=None,
    ):
        if gates is None:
            gates, per_example = self._sample(training, sequences)
        else:
            per_example = gates.shape[0] != 1
            gates = ops.cast(gates, self.compute_dtype)
            gates = gates if per_example else gates[0]
        with self.cell.gated(gates, per_example):
            outputs = super().call(
                sequences,
                initial_state=initial_state,
                mask=mask,
                training=training,
            )
        return keras.tree.map_structure(
            lambda tensor: tensor * self._shaped(gates, tensor), outputs
        )

    def _shaped(self, gates, outputs):
        """The gates, so that they broadcast to outputs."""
        shape = [1] * len(outputs.shape)
        if len(gates.shape) == 2:
            shape[0] = -1
        shape[self.units_axis] = gates.shape[-1]
        return ops.reshape(gates, shape)

    def _plain_config(self):
        left_out = {
            "use_cudnn": getattr(self, "_use_cudnn", None),
            "implementation": getattr(self.cell, "implementation", None),
        }
        return {
            **super()._plain_config(),
            **{name: left_out[name] for name in self.left_out_of_config},
        }

    def bake_apart(self, gates=None):
        """The plain Keras layer that this one is, and its outputs' gates.

        Args:
            gates: the test gates, a numpy array, where the layer is given
                them in calls.

        Returns:
            A built layer of the plain Keras type, with the name of this one
            and the rows of its recurrent kernel scaled, and a list with an
            array for each output of the call. Multiplied by these test gates,
            which broadcast from the last axis on, the outputs of the plain
            layer are those of this one.
        """
        if gates is None and self.gate is None:
            raise ValueError(
                f"Layer '{self.name}' cannot be baked alone: it has no gates "
                "of its own, but is given those of a `SharedGate`. Strip the "
                "model that it is in"
            )
        gates = self.gate.test_gates() if gates is None else gates
        plain = self.bake_with(ops.convert_to_tensor(gates))
        gates = gates.reshape((-1,) + (1,) * (-1 - self.units_axis))
        shapes = plain.compute_output_shape(self._sequences_shape)
        return plain, [gates] * (len(shapes) if self.return_state else 1)

    def bake(self):
        """The plain Keras model that this layer is at test time.

        Returns:
            A built model with the name of this layer: the plain layer, also
            of this name and with the rows of its recurrent kernel scaled,
            and a `Rescaling` of its outputs, named `"<name>_gates"`. It is a
            `Sequential`, or with `return_state` a functional model, where
            `"<name>_state_gates"` scales the states. It takes sequences
            alone, not an `initial_state`.
        """
        plain, (gates, *state_gates) = self.bake_apart()
        batch, steps, *features = self._sequences_shape
        # The plain layer, too, takes other numbers of examples and steps
        # than it was built with, but for these.
        inputs = keras.Input(
            batch_shape=(
                batch if self.stateful else None,
                steps if self.unroll else None,
                *features,
            ),
            dtype=self.compute_dtype,
        )
        if not self.return_state:
            shape = plain.compute_output_shape(self._sequences_shape)
            gates = self._rescaling("gates", gates, shape)
            model = keras.Sequential([inputs, plain, gates], name=self.name)
        else:
            outputs, *states = plain(inputs)
            gates = self._rescaling("gates", gates, outputs.shape)
            scale = self._rescaling(
                "state_gates", state_gates[0], states[0].shape
            )
            outputs = (gates(outputs), *map(scale, states))
            model = keras.Model(inputs, outputs, name=self.name)
        model.trainable = self.trainable
        return model

    def _rescaling(self, name, gates, shape):
        # Of full rank, so that it means the same for sequences under every
        # image data format.
        ones = (1,) * (len(shape) - gates.ndim)
        return keras.layers.Rescaling(
            gates.reshape(ones + gates.shape).tolist(),
            name=f"{self.name}_{name}",
            dtype=self.dtype_policy,
        )
