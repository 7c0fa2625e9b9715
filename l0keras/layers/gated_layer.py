import math

from keras import ops

from l0keras import hard_concrete
from l0keras.copying import live_arguments
from l0keras.gates import HardConcreteGate
from l0keras.gates import check_gate_arguments


class GatedLayer:
    """What every gated layer adds to the Keras layer it is mixed into.

    A subclass derives from this class and a Keras layer, in that order. It
    says in `gated_weights` where the gates lie on its weights, calls
    `_build_gate` once these are built, and applies the gates in `call`; the
    penalty and the plain layer to bake follow from that.

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
        group_size, kept: set by `l0keras.shrink`, for a layer that is smaller
            than it was at first: see `HardConcreteGate`.
    """

    granularities = ("input", "output", "weight")
    default_granularity = None
    # The Keras layer that `bake` gives back.
    plain_class = None
    # Whether the Keras layer has an argument `seed` too, for its dropout.
    plain_has_seed = False

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
        group_size=None,
        kept=None,
        **kwargs,
    ):
        if self.plain_has_seed:
            kwargs["seed"] = seed
        super().__init__(*args, **kwargs)
        self.granularity = granularity or self.default_granularity
        if self.granularity not in self.granularities:
            raise ValueError(
                f"Argument `granularity` must be one of {self.granularities} "
                f"or None. Received: granularity={granularity!r}"
            )
        if self.granularity == "weight" and sample_per == "example":
            raise ValueError(
                "Argument `sample_per` must be 'batch' where `granularity` is "
                "'weight': one example alone would need a kernel of its own. "
                f"Received: sample_per={sample_per!r}"
            )
        if getattr(self, "lora_rank", None):
            raise ValueError(
                "Argument `lora_rank` must be None: LoRA freezes the weights "
                "that are trained together with their gates. Use it on the "
                f"layer that `bake` returns. Received: "
                f"lora_rank={self.lora_rank}"
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
        check_gate_arguments(**self._gate_arguments)
        self._first = {"group_size": group_size, "kept": kept}
        # The gate needs the shapes of the weights, so `build` makes it.
        self.gate = None

    def _make_gate(self, rank=1, group_size=1):
        arguments = {**self._gate_arguments, "kept": self._first["kept"]}
        if self._first["group_size"] is not None:
            group_size = self._first["group_size"]
        if self.plain_has_seed and arguments["seed"] is not None:
            # From the same seed, dropout would draw the same noise.
            arguments["seed"] += 7_368_787
        return HardConcreteGate(
            axis=tuple(range(1, rank + 1)),
            group_size=group_size,
            name="gate",
            dtype="float32",
            **arguments,
        )

    def gated_weights(self):
        """Where the gates lie on the weights.

        Returns:
            A list of `GatedWeight`, one for each weight of the plain layer
            and in its order.
        """
        raise NotImplementedError

    def _build_gate(self):
        gated = [w for w in self.gated_weights() if w.axes]
        shape = gated[0].sizes
        if self.granularity != "weight":
            shape = (math.prod(shape),)
        self.gate = self._make_gate(
            rank=len(shape), group_size=sum(w.group_size for w in gated)
        )
        # A layer may have been frozen before it was built.
        self.gate.trainable = self.trainable
        self.gate.build((None, *shape))
        if self.gate.l2:
            self.gate.couple(self._squared_norms, self._ungated_norm)

    def _squared_norms(self):
        """The squared norm of each gate's weights, a tensor like the gates."""
        shape = self.gate.left_shape
        norms = [
            ops.reshape(weight.squared_norms(), shape)
            for weight in self.gated_weights()
            if weight.axes
        ]
        return self.gate.spread(sum(norms[1:], norms[0]))

    def _ungated_norm(self):
        norms = [w.squared_norms() for w in self.gated_weights() if not w.axes]
        return sum(norms, 0.0)

    def _sample(self, training, inputs):
        """The gates of one call.

        Returns:
            A tensor of the gates and of the compute dtype. Where each example
            has its own gates it has a leading batch axis; the second value
            says whether.
        """
        gates = self.gate.values(training, ops.shape(inputs)[0])
        per_example = len(gates.shape) > len(self.gate.log_alpha.shape)
        return ops.cast(gates, self.compute_dtype), per_example

    def bake(self, gates=None):
        """The plain Keras layer that this one is at test time.

        Args:
            gates: the test gates, a numpy array, where the layer is given
                them in calls.

        Returns:
            A built layer of the plain Keras type, with the name of this one
            and the test gates multiplied into its weights. It gives the same
            outputs; closed groups are all-zero weights.
        """
        if gates is None:
            return self.bake_with(self.gate.values(training=False))
        return self.bake_with(ops.convert_to_tensor(gates))

    def bake_with(self, gates):
        """The plain layer with these gates, a tensor, on its weights."""
        arguments = live_arguments(self, read=type(self)._plain_config)
        plain = self.plain_class(**arguments)
        plain.build_from_config(self._plain_build_config())
        plain.set_weights([w.bake(gates) for w in self.gated_weights()])
        plain.trainable = self.trainable
        return plain

    def _plain_config(self):
        return super().get_config()

    def _plain_build_config(self):
        config = self.get_build_config()
        # The plain layer is given no gates.
        shapes = dict((config or {}).get("shapes_dict", ()))
        if "gates_shape" not in shapes:
            return config
        del shapes["gates_shape"]
        return {**config, "shapes_dict": shapes}

    def get_config(self):
        return {
            **super().get_config(),
            **self._gate_arguments,
            **self._first,
            "granularity": self.granularity,
        }
