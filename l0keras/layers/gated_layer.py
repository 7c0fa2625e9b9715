import math

from keras import ops

from l0keras import hard_concrete
from l0keras.gates import HardConcreteGate

GRANULARITIES = ("input", "output", "weight")


class GatedLayer:
    """What every gated layer adds to the Keras layer it is mixed into.

    A subclass derives from this class and a Keras layer, in that order, and
    says in `default_granularity`, `_gate_layout` and `_linear` how its
    kernel is laid out; everything else is shared.

    The gates multiply the weights (kernel and, at granularity `"output"`,
    bias), so a closed output unit gives the activation of 0. With a sample
    for each example, the same product is taken on the activations instead.

    Args:
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples.
        l2: weight decay, at least 0, also divided by the number of training
            examples: 0.5 * l2 * w^2 for each weight, times the probability
            that its gate is open.
        granularity: what one gate closes: an `"input"` unit or channel, an
            `"output"` unit or feature map with its bias, or one `"weight"`
            of the kernel. `None` is the paper's choice for the layer type.
        droprate_init: the share of gates closed at the start, in (0, 1).
        sample_per: `"batch"` or `"example"`: how many examples share one
            sample of the gates.
        temperature, gamma, zeta, log_alpha_limit: see `HardConcreteGate`.
        seed: an integer that fixes the gates' noise and first `log_alpha`.
    """

    default_granularity = None
    # The Keras layer that `bake` gives back.
    plain_class = None

    def __init__(
        self,
        *args,
        l0=0.0,
        l2=0.0,
        granularity=None,
        droprate_init=0.5,
        sample_per="batch",
        temperature=hard_concrete.TEMPERATURE,
        gamma=hard_concrete.GAMMA,
        zeta=hard_concrete.ZETA,
        log_alpha_limit=math.log(100.0),
        seed=None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.granularity = granularity or self.default_granularity
        if self.granularity not in GRANULARITIES:
            raise ValueError(
                f"Argument `granularity` must be one of {GRANULARITIES} or "
                f"None. Received: granularity={granularity!r}"
            )
        if self.granularity == "weight" and sample_per == "example":
            raise ValueError(
                "Argument `sample_per` must be 'batch' where `granularity` is "
                "'weight': one example alone would need a kernel of its own. "
                f"Received: sample_per={sample_per!r}"
            )
        self._gate_arguments = {
            "l0": l0,
            "l2": l2,
            "droprate_init": droprate_init,
            "sample_per": sample_per,
            "temperature": temperature,
            "gamma": gamma,
            "zeta": zeta,
            "log_alpha_limit": log_alpha_limit,
            "seed": seed,
        }
        # The gate needs the kernel's shape, so `build` makes it; making one
        # to throw away refuses wrong arguments here already.
        self._make_gate()
        self.gate = None

    def _make_gate(self, rank=1, group_size=1):
        return HardConcreteGate(
            axis=tuple(range(1, rank + 1)),
            group_size=group_size,
            name="gate",
            dtype="float32",
            **self._gate_arguments,
        )

    # === What a subclass says about its kernel ===

    def _gate_layout(self):
        """The shape in which the gates broadcast over the kernel.

        Returns:
            A tuple of the kernel's rank: the size of each axis along which
            gates differ, 1 on the others.
        """
        raise NotImplementedError

    def _linear(self, inputs, kernel):
        """The layer without bias and activation."""
        raise NotImplementedError

    def _gated_linear(self, inputs, gates):
        """`_linear` with one sample of the gates on the kernel."""
        return self._linear(inputs, self.kernel * self._spread(gates))

    def _channel_axis(self):
        if getattr(self, "data_format", None) == "channels_first":
            return 1
        return -1

    # === Shared ===

    @property
    def _bias_gated(self):
        return self.granularity == "output" and self.use_bias

    def build(self, input_shape):
        super().build(input_shape)
        self._input_channels = input_shape[self._channel_axis()]
        shape = self._gate_shape()
        weights = math.prod(self.kernel.shape) // math.prod(shape)
        self.gate = self._make_gate(
            rank=len(shape), group_size=weights + int(self._bias_gated)
        )
        # A layer may have been frozen before it was built.
        self.gate.trainable = self.trainable
        self.gate.build((None, *shape))
        if self.gate.l2:
            self.gate.couple(self._squared_norms, self._ungated_norm)
        self.built = True

    def _gate_shape(self):
        layout = tuple(self._gate_layout())
        if self.granularity == "weight":
            return layout
        return (math.prod(layout),)

    def _spread(self, gates):
        """Shapes gates so that they broadcast over the kernel."""
        return ops.reshape(gates, self._gate_layout())

    def _squared_norms(self):
        """The squared norm of each gate's weights, a tensor like the gates."""
        layout = self._gate_layout()
        axes = [axis for axis, size in enumerate(layout) if size == 1]
        norms = ops.sum(ops.square(self.kernel), axis=axes)
        norms = ops.reshape(norms, self._gate_shape())
        if self._bias_gated:
            norms = norms + ops.square(self.bias)
        return norms

    def _ungated_norm(self):
        if self.use_bias and not self._bias_gated:
            return ops.sum(ops.square(self.bias))
        return 0.0

    def _on_activations(self, gates, rank):
        """Shapes gates so that they multiply activations of that rank."""
        shape = [1] * rank
        shape[self._channel_axis()] = gates.shape[-1]
        if len(gates.shape) > 1:
            shape[0] = -1
        return ops.cast(ops.reshape(gates, shape), self.compute_dtype)

    def call(self, inputs, training=False):
        gates = self.gate.values(training, ops.shape(inputs)[0])
        per_example = len(gates.shape) > len(self.gate.log_alpha.shape)
        rank = len(inputs.shape)
        if per_example:
            if self.granularity == "input":
                inputs = inputs * self._on_activations(gates, rank)
            outputs = self._linear(inputs, self.kernel)
        else:
            gates = ops.cast(gates, self.compute_dtype)
            outputs = self._gated_linear(inputs, gates)
        if self.use_bias:
            shape = [1] * rank
            shape[self._channel_axis()] = -1
            bias = self.bias
            if self._bias_gated and not per_example:
                bias = bias * gates
            # `ops.add`, not `+`: TensorFlow fuses it into the product.
            outputs = ops.add(outputs, ops.reshape(bias, shape))
        if self.granularity == "output" and per_example:
            outputs = outputs * self._on_activations(gates, rank)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs

    def bake(self):
        """The plain Keras layer that this one is at test time.

        Returns:
            A built layer of the plain Keras type, with the name of this one
            and the test gates multiplied into its weights. It gives the same
            outputs; closed groups are all-zero weights.
        """
        config = super().get_config()
        plain = self.plain_class.from_config(config)
        plain.build(self.get_build_config()["input_shape"])
        gates = self.gate.values(training=False)
        weights = [self.kernel * self._spread(gates)]
        if self.use_bias:
            bias = ops.convert_to_tensor(self.bias)
            weights.append(bias * gates if self._bias_gated else bias)
        plain.set_weights(weights)
        plain.trainable = self.trainable
        return plain

    def get_config(self):
        return {
            **super().get_config(),
            **self._gate_arguments,
            "granularity": self.granularity,
        }
