import collections
import math

import keras
import numpy as np
from keras import ops

from l0keras.connections.positions import MOST_POSITIONS
from l0keras.connections.positions import draw_positions
from l0keras.connections.positions import signs_at
from l0keras.connections.seeds import draw_seed
from l0keras.layers.sparse_matmul import sparse_matmul

# What an optimizer finds as `sparse_storage` at the variable of the values:
# the variables of the positions, the signs and the key of new signs, and the
# shape of the kernel that they stand for.
SparseStorage = collections.namedtuple(
    "SparseStorage", "positions signs key shape"
)

# The arguments that are those of `keras.layers.Dense`, and what makes those
# that are objects a part of a configuration.
_SHARED = {
    "units": None,
    "activation": keras.activations.serialize,
    "use_bias": None,
    "kernel_initializer": keras.initializers.serialize,
    "bias_initializer": keras.initializers.serialize,
    "kernel_regularizer": keras.regularizers.serialize,
    "bias_regularizer": keras.regularizers.serialize,
    "bias_constraint": keras.constraints.serialize,
}


@keras.saving.register_keras_serializable("l0keras")
class SparseDense(keras.layers.Layer):
    """A `keras.layers.Dense` that stores only the connections it has.

    Weights, gradients and all that an optimizer keeps for each weight have
    one entry per connection; no array of the kernel's shape is made, neither
    in training nor at the start. Connections are drawn uniformly and stay
    where they are, unless `l0keras.optimizers.DeepR` trains the layer, which
    moves them.

    `l0keras.strip` turns it into a `keras.layers.Dense`, and so does
    `to_dense`.

    Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018
    (arXiv:1711.05136): a network is trained in the memory of its active
    connections.

    Args:
        units: the number of outputs.
        connectivity: the share of connections that exist, in (0, 1]; of
            inputs * units, rounded.
        activation, use_bias: as in `keras.layers.Dense`.
        kernel_initializer: of the magnitudes. Initializers that look at the
            numbers of inputs and outputs are scaled as for a full kernel of
            which only some entries are left. Signs are drawn separately.
        bias_initializer, bias_regularizer, bias_constraint: as in
            `keras.layers.Dense`.
        kernel_regularizer: a penalty on the values of the connections.
        seed: an integer that fixes connections and signs, or `None`.

    Input shape: `(batch, ..., input_dim)`.

    Output shape: `(batch, ..., units)`.

    Raises:
        ValueError: a connectivity that is out of range or leaves no
            connection, or more than 2^31 - 2 potential connections.

    Example:

    >>> layer = SparseDense(8192, connectivity=0.01, activation="relu")
    >>> layer(keras.ops.ones((2, 8192))).shape
    (2, 8192)
    """

    def __init__(
        self,
        units,
        connectivity=0.01,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        bias_constraint=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(units, int) or units < 1:
            raise ValueError(
                "Argument `units` must be an integer of at least 1. "
                f"Received: units={units}"
            )
        number = isinstance(connectivity, (int, float))
        if not number or not 0 < connectivity <= 1:
            raise ValueError(
                "Argument `connectivity` must lie in (0, 1]. "
                f"Received: connectivity={connectivity}"
            )
        if seed is not None and (
            not isinstance(seed, int) or not 0 <= seed < 2**31
        ):
            raise ValueError(
                "Argument `seed` must be an integer from 0 to 2^31 - 1, or "
                f"None. Received: seed={seed}"
            )
        self.units = units
        self.connectivity = float(connectivity)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.seed = seed
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True

    @property
    def connections(self):
        """How many connections the layer has; known once it is built."""
        return self.values.shape[0]

    def build(self, input_shape):
        rows = input_shape[-1]
        size = rows * self.units
        if size > MOST_POSITIONS:
            raise ValueError(
                f"A `SparseDense` must have at most {MOST_POSITIONS} potential "
                f"connections. Received: {rows} inputs and units={self.units}"
            )
        count = round(self.connectivity * size)
        if count < 1:
            raise ValueError(
                "Argument `connectivity` must leave at least one connection. "
                f"Received: connectivity={self.connectivity} for {rows} "
                f"inputs and units={self.units}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: rows})
        seed = draw_seed() if self.seed is None else self.seed
        drawn = draw_positions(size, count, np.random.default_rng([seed, 0]))
        signs = ops.convert_to_numpy(signs_at(drawn, seed)).astype("int8")

        def values(shape, dtype=None):
            initializer = _of_full_kernel(
                self.kernel_initializer, (rows, self.units), count
            )
            magnitudes = ops.abs(initializer(shape, dtype=dtype))
            return magnitudes * ops.cast(signs, dtype)

        self.values = self.add_weight(
            name="values",
            shape=(count,),
            initializer=values,
            regularizer=self.kernel_regularizer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.positions = self._state("positions", "int32", drawn)
        self.signs = self._state("signs", "int8", signs)
        self.key = self._state("key", "int32", np.int32(seed))
        self.values.sparse_storage = SparseStorage(
            self.positions, self.signs, self.key, (rows, self.units)
        )

    def _state(self, name, dtype, value):
        return self.add_weight(
            name=name,
            shape=value.shape,
            dtype=dtype,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(
                value, dtype
            ),
            trainable=False,
        )

    def call(self, inputs):
        rows, columns = self.values.sparse_storage.shape
        flat = ops.reshape(inputs, (-1, rows))
        outputs = sparse_matmul(
            flat,
            self.values,
            ops.convert_to_tensor(self.positions),
            (rows, columns),
        )
        if len(inputs.shape) > 2:
            shape = (*ops.shape(inputs)[:-1], columns)
            outputs = ops.reshape(outputs, shape)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def to_dense(self):
        """The `keras.layers.Dense` that computes the same.

        Returns:
            A built layer of the same name, with 0 where this one has no
            connection. It needs the memory that this one saves.
        """
        plain = keras.layers.Dense(**_shared(self))
        shape = self.values.sparse_storage.shape
        plain.build((None, shape[0]))
        values = ops.convert_to_numpy(self.values)
        kernel = np.zeros(math.prod(shape), values.dtype)
        kernel[ops.convert_to_numpy(self.positions)] = values
        weights = [kernel.reshape(shape)]
        if self.use_bias:
            weights.append(ops.convert_to_numpy(self.bias))
        plain.set_weights(weights)
        plain.trainable = self.trainable
        return plain

    # The name under which `l0keras.strip` asks for a plain layer.
    bake = to_dense

    @classmethod
    def from_dense(cls, layer, seed=None):
        """A sparse layer of the connections that a dense one has.

        Args:
            layer: a built `keras.layers.Dense`, whose kernel is mostly 0.
            seed: an integer that fixes the signs of connections that come
                later, or `None`.

        Returns:
            A built `SparseDense` of the same name that computes the same,
            with a connection for each entry of the kernel that is not 0.

        Raises:
            ValueError: `layer` is no built `Dense`, or its kernel is 0.
        """
        if not isinstance(layer, keras.layers.Dense) or not layer.built:
            raise ValueError(
                "Argument `layer` must be a built `keras.layers.Dense`. "
                f"Received: layer={layer!r}"
            )
        kernel = ops.convert_to_numpy(layer.kernel)
        positions = np.flatnonzero(kernel).astype("int32")
        if not len(positions):
            raise ValueError(
                "Argument `layer` must have a weight that is not 0. "
                f"Received: {layer.name!r}, whose kernel is 0"
            )
        sparse = cls(
            connectivity=len(positions) / kernel.size,
            seed=seed,
            **_shared(layer),
        )
        sparse.build((None, kernel.shape[0]))
        values = kernel.reshape(-1)[positions]
        sparse.values.assign(values)
        sparse.positions.assign(positions)
        sparse.signs.assign(np.sign(values).astype("int8"))
        if layer.use_bias:
            sparse.bias.assign(layer.bias)
        sparse.trainable = layer.trainable
        return sparse

    def get_config(self):
        shared = {
            name: serialize(getattr(self, name))
            if serialize
            else getattr(self, name)
            for name, serialize in _SHARED.items()
        }
        return {
            **super().get_config(),
            **shared,
            "connectivity": self.connectivity,
            "seed": self.seed,
        }


def _shared(layer):
    """The arguments for a layer of the other kind that is otherwise alike."""
    return {
        **{name: getattr(layer, name) for name in _SHARED},
        "name": layer.name,
        "dtype": layer.dtype_policy,
    }


def _of_full_kernel(initializer, shape, count):
    """An initializer of a vector that draws as if for the full kernel."""
    if not isinstance(initializer, keras.initializers.VarianceScaling):
        return initializer
    rows, columns = shape
    # Of a vector, fan in and fan out are its length.
    fan = {
        "fan_in": rows,
        "fan_out": columns,
        "fan_avg": (rows + columns) / 2,
    }[initializer.mode]
    return keras.initializers.VarianceScaling(
        initializer.scale * count / fan,
        initializer.mode,
        initializer.distribution,
        initializer.seed,
    )
