import keras
from keras import ops

from l0keras.layers.gated_layer import GatedLayer
from l0keras.layers.gated_weight import GatedWeight


@keras.saving.register_keras_serializable("l0keras")
class L0Embedding(GatedLayer, keras.layers.Embedding):
    """A `keras.layers.Embedding` with hard-concrete gates on its weights.

    With every gate at 1 it is exactly the plain layer.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 2.2; the paper has no embedding.

    Args:
        input_dim, output_dim, ...: as in `keras.layers.Embedding`;
            `lora_rank` must be `None`, and `weights` be given by name.
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples.
        l2: weight decay coupled with the gates, divided likewise: the
            penalty is 0.5 * l2 * w^2 times the probability of an open gate.
        granularity: `"output"` (default): one gate for each dimension of the
            embedding; `"input"`: one for each entry of the vocabulary, which
            closes to a vector of zeros; `"weight"`: one for each number.
        droprate_init: the share of gates closed at the start, in (0, 1).
        sample_per: `"batch"` or `"example"`.
        temperature, gamma, zeta, log_alpha_limit, seed: see
            `l0keras.HardConcreteGate`.

    Input shape: `(batch, ...)`, of integers.

    Output shape: `(batch, ..., output_dim)`.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> layer = L0Embedding(1000, 64, mask_zero=True, l0=1e-6)
    >>> layer(keras.ops.ones((2, 7), "int32")).shape
    (2, 7, 64)
    """

    default_granularity = "output"
    plain_class = keras.layers.Embedding

    def __init__(self, *args, weights=None, **kwargs):
        super().__init__(*args, **kwargs)
        # Keras would build the layer for them before it knows of its gates.
        if weights is not None:
            self.build()
            given = isinstance(weights, list) and len(weights) == 1
            self.embeddings.assign(weights[0] if given else weights)

    def build(self, input_shape=None):
        if self.built:
            return
        super().build(input_shape)
        self._build_gate()

    def gated_weights(self):
        axes = {"input": (0,), "output": (1,), "weight": (0, 1)}
        return [GatedWeight(self.embeddings, axes[self.granularity])]

    def call(self, inputs, training=False):
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if dtype not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        gates, per_example = self._sample(training, inputs)
        # Gating what was looked up leaves the rest of the table alone.
        if self.granularity == "output":
            if per_example:
                ones = (1,) * (len(inputs.shape) - 1)
                gates = ops.reshape(gates, (-1, *ones, self.output_dim))
        elif per_example:
            rows = ops.reshape(inputs, (ops.shape(inputs)[0], -1))
            gates = ops.take_along_axis(gates, rows, axis=1)
            gates = ops.reshape(gates, (*ops.shape(inputs), 1))
        else:
            gates = ops.take(gates, inputs, axis=0)
            if self.granularity == "input":
                gates = ops.expand_dims(gates, -1)
        return super().call(inputs) * gates

    def compute_output_spec(self, inputs, training=False):
        return super().compute_output_spec(inputs)
