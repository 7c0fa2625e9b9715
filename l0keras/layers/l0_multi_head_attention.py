import contextlib

import keras
from keras import ops

from l0keras.layers.gated_layer import GatedLayer
from l0keras.layers.gated_weight import GatedWeight


class _Heads(keras.layers.EinsumDense):
    """A projection to heads that can be told to multiply each one."""

    _gates = None

    @contextlib.contextmanager
    def gated(self, gates):
        try:
            self._gates = gates
            yield
        finally:
            self._gates = None

    def call(self, inputs, training=None):
        outputs = super().call(inputs, training=training)
        if self._gates is None:
            return outputs
        # Gates of shape (heads,) or (batch, heads), for (batch, ..., heads,
        # features).
        shape = [1] * len(outputs.shape)
        shape[-2] = self._gates.shape[-1]
        if len(self._gates.shape) > 1:
            shape[0] = -1
        return outputs * ops.reshape(self._gates, shape)


@keras.saving.register_keras_serializable("l0keras")
class L0MultiHeadAttention(GatedLayer, keras.layers.MultiHeadAttention):
    """A `keras.layers.MultiHeadAttention` with a gate for each head.

    A gate multiplies what its head gives to the output projection. With every
    gate at 1 it is exactly the plain layer.

    One gate closes the head's part of the query, key and value kernels and
    biases (with `use_gate` of that projection's too) and its slice of the
    output kernel. The returned attention scores are those of the plain layer;
    a closed head has no query left and attends to all positions alike.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 2.2. The paper has no attention; hard-concrete gates on heads are
    from Voita et al., ACL 2019 (arXiv:1905.09418).

    Args:
        num_heads, key_dim, ...: as in `keras.layers.MultiHeadAttention`.
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples.
        l2: weight decay coupled with the gates, divided likewise: the
            penalty is 0.5 * l2 * w^2 times the probability of an open gate.
        granularity: `"head"`, the only one.
        droprate_init: the share of gates closed at the start, in (0, 1).
        sample_per: `"batch"` or `"example"`.
        temperature, gamma, zeta, log_alpha_limit: see
            `l0keras.HardConcreteGate`.
        seed: an integer that fixes the gates' noise and first `log_alpha`,
            and dropout.

    Call arguments:
        gates: `None`, or gates from a `SharedGate`, of shape (1 or batch,
            heads), in the place of its own; in all calls or in none.
        query, value, ...: as in `keras.layers.MultiHeadAttention`.

    Input shape: query `(batch, ..., query_dim)`, value and key
        `(batch, ..., dim)`.

    Output shape: that of the plain layer.

    Raises:
        ValueError: an argument out of its range, or attention over the last
            axis.

    Example:

    >>> layer = L0MultiHeadAttention(num_heads=8, key_dim=16, l0=1e-6)
    >>> x = keras.ops.ones((2, 9, 128))
    >>> layer(x, x).shape
    (2, 9, 128)
    """

    granularities = ("head",)
    default_granularity = "head"
    plain_class = keras.layers.MultiHeadAttention
    plain_has_seed = True

    def build(self, query_shape, value_shape, key_shape=None, gates_shape=None):
        super().build(query_shape, value_shape, key_shape)
        # In the projections, the heads come in the place of the features.
        if len(query_shape) - 1 in self._attention_axes:
            raise ValueError(
                "Argument `attention_axes` must not name the last axis of the "
                "query, or heads would attend to each other and none could "
                "be closed alone. Received: "
                f"attention_axes={self._attention_axes} for a query of shape "
                f"{query_shape}"
            )
        # The Keras layer makes its projections itself. A gate on the values
        # is one on the head's output, which is linear in them.
        for projection in (self._query_dense, self._value_dense):
            projection.__class__ = _Heads
        if gates_shape is None:
            self._build_gate()

    def gated_weights(self):
        projections = [self._query_dense, self._key_dense]
        if self._use_gate:
            projections.append(self._gate_dense)
        projections.append(self._value_dense)
        weights = []
        for projection in projections:
            weights.append(GatedWeight(projection.kernel, (1,), scaled=False))
            if self._use_bias:
                weights.append(GatedWeight(projection.bias, (0,), scaled=False))
        weights.append(GatedWeight(self._output_dense.kernel, (0,)))
        if self._use_bias:
            weights.append(GatedWeight(self._output_dense.bias))
        return weights

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
        gates=None,
    ):
        if gates is None:
            gates, _ = self._sample(training, query)
        else:
            gates = ops.cast(gates, self.compute_dtype)
            gates = gates if gates.shape[0] != 1 else gates[0]
        queries = None
        if return_attention_scores:
            # Only the scores tell whether a closed head has a query.
            queries = ops.cast(gates != 0, gates.dtype)
        with self._value_dense.gated(gates), self._query_dense.gated(queries):
            return super().call(
                query,
                value,
                key=key,
                query_mask=query_mask,
                value_mask=value_mask,
                key_mask=key_mask,
                attention_mask=attention_mask,
                return_attention_scores=return_attention_scores,
                training=training,
                use_causal_mask=use_causal_mask,
            )

    def compute_output_spec(self, *args, gates=None, **kwargs):
        return super().compute_output_spec(*args, **kwargs)

    def _plain_config(self):
        # What Keras leaves out of its config.
        config = super()._plain_config()
        return {**config, "flash_attention": self._flash_attention}
