import keras
from keras import ops

from l0keras.gates.hard_concrete_gate import HardConcreteGate


@keras.saving.register_keras_serializable("l0keras")
class SharedGate(HardConcreteGate):
    """One vector of hard-concrete gates, to be multiplied in several places.

    Units that can only be cut together, such as the same channel of all
    tensors that a residual connection adds up, need the same sample in the
    same step. This layer draws it once and gives it out as a tensor;
    `keras.ops.multiply` applies it wherever it is due.

    Source: as `l0keras.HardConcreteGate`; gates for residual streams are not
    in the paper.

    Args:
        units: the number of gates at first, an integer above 0.
        l0, l2, droprate_init, ...: as in `HardConcreteGate`, without `axis`.

    Input shape: any; only the number of examples is read.

    Output shape: `(1, units)`, or `(batch, units)` where `sample_per` is
        `"example"`; with `kept` as many as are left.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> gates = SharedGate(64, l0=0.1 / 60_000, group_size=1153)(inputs)
    >>> a, b = a * gates, b * gates  # tensors of shape (batch, 64)
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(units, int) or units < 1:
            raise ValueError(
                "Argument `units` must be an integer above 0. "
                f"Received: units={units!r}"
            )
        self.units = units

    @property
    def _left(self):
        """How many gates are left."""
        return self.units if self.kept is None else sum(self.kept[0])

    def build(self, inputs_shape, log_alpha_shape=None):
        super().build((None, self._left), log_alpha_shape)

    def call(self, inputs, log_alpha=None, training=False):
        gates = self.values(training, ops.shape(inputs)[0], log_alpha)
        self.charge(log_alpha)
        if len(gates.shape) == 1:
            gates = gates[None]
        elif not (training and self.trainable):
            shape = (ops.shape(inputs)[0], self._left)
            gates = ops.broadcast_to(gates, shape)
        return ops.cast(gates, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        batch = input_shape[0] if self.sample_per == "example" else 1
        return (batch, self._left)

    def compute_mask(self, inputs, mask=None):
        return None

    def get_config(self):
        config = super().get_config()
        del config["axis"]
        return {**config, "units": self.units}


def gates_of(model: keras.Layer) -> list[HardConcreteGate]:
    """Lists the gates of a model, in the order of its layers.

    Args:
        model: a `keras.Model`, or any `keras.Layer`.

    Returns:
        A list of `HardConcreteGate` layers, each once: those that stand in
        the model by themselves and those inside gated layers and nested
        models. Empty for a model without gates.

    Raises:
        ValueError: `model` is no Keras layer or model.
    """
    if not isinstance(model, keras.Layer):
        raise ValueError(
            "Argument `model` must be a Keras model or layer. "
            f"Received: model={model!r}"
        )
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, HardConcreteGate)
    ]
