import math

import keras
import numpy as np
from keras import ops

from l0keras import hard_concrete
from l0keras.regularizers import L0
from l0keras.replicas import ReplicaSeedGenerator

SAMPLE_PER = ("batch", "example")


# The `log_alpha` of a gate that is closed for good: no noise opens it, and its
# probability of being open and all its gradients are exactly 0 in float32.
CLOSED = -256.0
# All that is below counts as such. Momentum and weight decay, which still
# move it, do not get that far in a step.
_NEARLY_CLOSED = -128.0


@keras.saving.register_keras_serializable("l0keras")
class Clip(keras.constraints.Constraint):
    """Keeps every entry of a variable within [-limit, limit].

    Gates that are closed for good stay so, see `HardConcreteGate.close`.

    Args:
        limit: a float above 0, or `None` for no limit.
    """

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, w):
        clipped = w = ops.convert_to_tensor(w)
        if self.limit is not None:
            clipped = ops.clip(w, -self.limit, self.limit)
        return ops.where(w < _NEARLY_CLOSED, CLOSED, clipped)

    def get_config(self):
        return {"limit": self.limit}


def check_gate_arguments(
    droprate_init=0.5,
    sample_per="batch",
    log_alpha_limit=None,
    seed=None,
    **prices_and_constants,
):
    """Checks the arguments of a `HardConcreteGate` before any work.

    Args:
        droprate_init, sample_per, log_alpha_limit, seed: see
            `HardConcreteGate`.
        **prices_and_constants: the arguments of `regularizers.L0`.

    Raises:
        ValueError: an argument out of its range.
    """
    if not 0 < droprate_init < 1:
        raise ValueError(
            "Argument `droprate_init` must lie in (0, 1). "
            f"Received: droprate_init={droprate_init}"
        )
    if sample_per not in SAMPLE_PER:
        raise ValueError(
            f"Argument `sample_per` must be one of {SAMPLE_PER}. "
            f"Received: sample_per={sample_per!r}"
        )
    if log_alpha_limit is not None and not log_alpha_limit > 0:
        raise ValueError(
            "Argument `log_alpha_limit` must be above 0 or None. "
            f"Received: log_alpha_limit={log_alpha_limit}"
        )
    if not (seed is None or isinstance(seed, int)):
        raise ValueError(
            "Argument `seed` must be an integer or None. "
            f"Received: seed={seed!r}"
        )
    # Throws away what is no layer and has no variables.
    L0(**prices_and_constants)


@keras.saving.register_keras_serializable("l0keras")
class HardConcreteGate(keras.layers.Layer):
    """Multiplies one axis of its input by learned hard-concrete gates.

    While training, the gates are samples, so that the network learns which
    units it can do without; otherwise they are the deterministic test gates,
    many of them exactly 0. A gate layer with `trainable = False` uses the
    test gates in training too, as a frozen `BatchNormalization` does.

    A gate has a `log_alpha` of its own, a variable, or it is generated: a
    `GateGenerator` makes the tensor with which the gate is called.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 2.2; generated gates of Li and Ji, ECML-PKDD 2021
    (arXiv:2107.00070).

    Args:
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples.
        l2: weight decay of the gated weights, coupled with the gates; only
            for gates that know their weights, see `couple`.
        axis: the gated axis, or a tuple of axes that get one gate for each
            combination of indices. Never the batch axis.
        droprate_init: the share of units dropped at the start, in (0, 1).
            `log_alpha` is drawn from N(log((1-d)/d), 0.01^2).
        sample_per: `"batch"` draws one gate for all examples of a batch (on
            each replica), `"example"` one for each example.
        group_size: how many weights one gate closes; a number or a nested
            list of the shape of the gates.
        temperature, gamma, zeta: the constants of the hard concrete.
        log_alpha_limit: `log_alpha` is kept within plus or minus this after
            each step, log 100 by default; `None` leaves it free.
        seed: an integer that fixes the samples and the initial `log_alpha`.
        kept: what `l0keras.shrink` has left of the gates, `None` for all: for
            each gated axis a list of booleans, one for each gate there was at
            first. All of them keep their `log_alpha`, their price and their
            noise, so that those that are left go on as before.

    Call arguments:
        inputs: a tensor.
        log_alpha: `None`, or a float32 tensor with one entry for each gate
            there was at first, in the place of a variable; in all calls or in
            none.
        training: whether to draw samples.

    Input shape: any, with known sizes along `axis`.

    Output shape: that of the input.

    Raises:
        ValueError: an argument out of its range, a gated axis that is the
            batch axis or of unknown size, or a `log_alpha` of another shape
            than the gates have.

    Example:

    >>> x = keras.layers.Conv2D(64, 3)(x)
    >>> x = keras.layers.BatchNormalization()(x)
    >>> x = keras.layers.ReLU()(x)
    >>> x = l0keras.HardConcreteGate(l0=0.1 / 60_000, group_size=577)(x)
    """

    def __init__(
        self,
        l0=0.0,
        l2=0.0,
        axis=-1,
        droprate_init=0.5,
        sample_per="batch",
        group_size=1,
        temperature=hard_concrete.TEMPERATURE,
        gamma=hard_concrete.GAMMA,
        zeta=hard_concrete.ZETA,
        log_alpha_limit=math.log(100.0),
        seed=None,
        kept=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_gate_arguments(
            droprate_init=droprate_init,
            sample_per=sample_per,
            log_alpha_limit=log_alpha_limit,
            seed=seed,
        )
        _check_kept(kept, axis)
        self.axis = axis if isinstance(axis, int) else tuple(axis)
        self.droprate_init = droprate_init
        self.sample_per = sample_per
        self.log_alpha_limit = log_alpha_limit
        self.seed = seed
        self.seed_generator = ReplicaSeedGenerator(seed)
        # It checks l0, l2, group_size and the constants.
        self.regularizer = L0(l0, l2, group_size, temperature, gamma, zeta)
        self.constraint = Clip(log_alpha_limit)
        self.kept = kept
        self.log_alpha = None
        # What the gates are whatever they have learned, see `hold_gates`.
        self.held = None
        self.supports_masking = True
        # `call` casts the inputs, but not a generated `log_alpha`: near a
        # threshold, half precision would round a gate shut.
        self.autocast = False

    @property
    def l0(self):
        return self.regularizer.l0

    @property
    def l2(self):
        return self.regularizer.l2

    @property
    def group_size(self):
        return self.regularizer.group_size

    def couple(self, squared_norms, ungated_squared_norm=None):
        """Names the weights behind the gates, see `regularizers.L0.couple`."""
        self.regularizer.couple(squared_norms, ungated_squared_norm)

    def _axes(self, rank):
        axes = (self.axis,) if isinstance(self.axis, int) else self.axis
        if not axes or any(not -rank <= axis < rank for axis in axes):
            raise ValueError(
                f"Argument `axis` must name axes of an input of rank {rank}. "
                f"Received: axis={self.axis}"
            )
        axes = sorted({axis % rank for axis in axes})
        if isinstance(self.axis, tuple) and len(axes) != len(self.axis):
            raise ValueError(
                "Argument `axis` must name each axis once. "
                f"Received: axis={self.axis} for an input of rank {rank}"
            )
        return axes

    def build(self, inputs_shape, log_alpha_shape=None):
        axes = self._axes(len(inputs_shape))
        if 0 in axes:
            raise ValueError(
                "Argument `axis` must not name the batch axis. "
                f"Received: axis={self.axis} for input shape {inputs_shape}"
            )
        shape = tuple(inputs_shape[axis] for axis in axes)
        if None in shape:
            raise ValueError(
                f"The gated axis must have a known size. Received: "
                f"axis={self.axis} for input shape {inputs_shape}"
            )
        shape = self._first(shape)
        sizes = np.shape(self.group_size)
        if sizes not in ((), shape):
            raise ValueError(
                "Argument `group_size` must be a number or have the shape of "
                f"the gates, {shape}. Received: group_size of shape {sizes}"
            )
        if log_alpha_shape is not None:
            if tuple(log_alpha_shape) != shape:
                raise ValueError(
                    f"Argument `log_alpha` of gate '{self.name}' must have "
                    f"the shape of its gates, {shape}. Received: log_alpha of "
                    f"shape {tuple(log_alpha_shape)}"
                )
            return
        mean = math.log((1.0 - self.droprate_init) / self.droprate_init)
        self.log_alpha = self.add_weight(
            name="log_alpha",
            shape=shape,
            initializer=keras.initializers.RandomNormal(
                mean=mean, stddev=0.01, seed=self.seed
            ),
            regularizer=self.regularizer,
            constraint=self.constraint,
            dtype="float32",
            autocast=False,
        )

    def _first(self, shape):
        """The shape of all gates there were at first, from that of those left.

        Raises:
            ValueError: not as many are left as `kept` says.
        """
        if self.kept is None:
            return shape
        left = tuple(sum(mask) for mask in self.kept)
        if left != tuple(shape):
            raise ValueError(
                f"Argument `kept` of gate '{self.name}' must leave as many "
                f"gates as its input has along the gated axes, {tuple(shape)}. "
                f"Received: kept leaves {left}"
            )
        return tuple(map(len, self.kept))

    def _select(self, gates):
        """Of all gates there were at first those that are left."""
        if self.kept is None:
            return gates
        for number, mask in enumerate(self.kept):
            if not all(mask):
                index = np.flatnonzero(mask).tolist()
                axis = number - len(self.kept)
                gates = ops.take(gates, index, axis=axis)
        return gates

    @property
    def left_shape(self):
        """The shape of the gates that are left, of a gate that was built."""
        if self.kept is None:
            return tuple(self.log_alpha.shape)
        return tuple(sum(mask) for mask in self.kept)

    def spread(self, numbers):
        """A number for each gate there was at first, for `couple`.

        Args:
            numbers: a tensor of the shape of the gates that are left. Those
                that are gone, which are closed for good, get any of them.
        """
        if self.kept is None:
            return numbers
        for axis, mask in enumerate(self.kept):
            index = np.cumsum(mask) - 1
            index = np.maximum(index, 0).tolist()
            numbers = ops.take(numbers, index, axis=axis)
        return numbers

    def values(self, training=False, batch_size=None, log_alpha=None):
        """The gates to multiply by, in float32.

        Args:
            training: a boolean. True draws samples, unless the layer is
                frozen; False gives the test gates.
            batch_size: the number of examples, for `sample_per="example"`.
            log_alpha: a tensor, for a generated gate. `None` takes the
                variable, or asks the generator.

        Returns:
            A tensor of the shape of `log_alpha`, or with `kept` of the gates
            that are left; where examples are sampled one by one, with a
            leading batch axis.
        """
        if self.held is not None and np.ndim(self.held):
            # Without asking the generator, which makes all gates of a model.
            return self._select(ops.convert_to_tensor(self.held))
        if log_alpha is None:
            log_alpha = self.current_log_alpha()
        log_alpha = ops.convert_to_tensor(log_alpha)
        if self.held is not None:
            return self._select(ops.zeros_like(log_alpha) + self.held)
        constants = self.constants
        if not (training and self.trainable):
            log_alpha = self._select(log_alpha)
            return hard_concrete.deterministic_gate(log_alpha, **constants)
        shape = None
        if self.sample_per == "example":
            shape = (batch_size, *log_alpha.shape)
        gates = hard_concrete.sample(
            log_alpha, self.seed_generator, shape, **constants
        )
        # Noise for all of them, or those left would get that of others.
        return self._select(gates)

    def current_log_alpha(self):
        """The variable, or what the generator makes of its weights now."""
        if self.log_alpha is not None:
            return self.log_alpha
        made = self.generated_by()
        if made is None:
            raise ValueError(
                f"Gate '{self.name}' has no `log_alpha` of its own, and is in "
                "no functional model where a `GateGenerator` makes one for it."
            )
        generator, index = made
        return generator.log_alpha(index)

    def generated_by(self):
        """The `GateGenerator` of a gate and its position there, or `None`."""
        given = [log_alpha_of(call) for call in self._inbound_nodes[-1:]]
        history = getattr(given[0], "_keras_history", None) if given else None
        if not hasattr(getattr(history, "operation", None), "log_alpha"):
            return None
        return history.operation, history.tensor_index

    @property
    def constants(self):
        """Temperature, gamma and zeta, as keyword arguments."""
        return {
            name: getattr(self.regularizer, name)
            for name in ("temperature", "gamma", "zeta")
        }

    def close(self, mask):
        """Closes gates for good: they are 0 from now on, also in training.

        Args:
            mask: a boolean numpy array of the shape of `log_alpha`.
        """
        if self.log_alpha is None:
            generator, index = self.generated_by()
            generator.close(index, mask)
        else:
            now = ops.convert_to_numpy(self.log_alpha)
            self.log_alpha.assign(np.where(mask, CLOSED, now))

    def closed_for_good(self):
        """Which gates never open again, see `close`.

        Returns:
            A boolean numpy array of the shape of `log_alpha`.
        """
        if self.log_alpha is None:
            generator, index = self.generated_by()
            return generator.closed_for_good(index)
        return ops.convert_to_numpy(self.log_alpha) < _NEARLY_CLOSED

    def prob_open(self):
        """The probability of each gate to be open while training.

        Returns:
            A numpy array of the shape of `log_alpha`.
        """
        log_alpha = self.current_log_alpha()
        prob = hard_concrete.prob_open(log_alpha, **self.constants)
        return ops.convert_to_numpy(prob)

    def test_gates(self):
        """The gates used at test time.

        Returns:
            A numpy array of the gates that are left, with values in [0, 1].
        """
        return ops.convert_to_numpy(self.values(training=False))

    def count_open(self):
        """How many test gates are not 0, an integer."""
        return int(np.count_nonzero(self.test_gates()))

    def charge(self, log_alpha):
        """Adds the price of a generated `log_alpha` to the losses.

        A variable's regularizer does it by itself, unless it is frozen.
        """
        if log_alpha is not None and self.l0 and self.trainable:
            self.add_loss(self.regularizer(log_alpha))

    def call(self, inputs, log_alpha=None, training=False):
        rank = len(inputs.shape)
        axes = self._axes(rank)
        gates = self.values(training, ops.shape(inputs)[0], log_alpha)
        self.charge(log_alpha)
        shape = [1] * rank
        for axis in axes:
            shape[axis] = inputs.shape[axis]
        if len(gates.shape) > len(axes):
            shape[0] = -1
        inputs = ops.cast(inputs, self.compute_dtype)
        return inputs * ops.cast(ops.reshape(gates, shape), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "l0": self.l0,
            "l2": self.l2,
            "axis": self.axis,
            "droprate_init": self.droprate_init,
            "sample_per": self.sample_per,
            "group_size": self.group_size,
            **self.constants,
            "log_alpha_limit": self.log_alpha_limit,
            "seed": self.seed,
            "kept": self.kept,
        }


def _check_kept(kept, axis):
    if kept is None:
        return
    axes = 1 if isinstance(axis, int) else len(axis)
    if len(kept) != axes or not all(any(mask) for mask in kept):
        raise ValueError(
            "Argument `kept` must have a list of booleans for each of the "
            f"{axes} gated axes, some of them True. Received: kept={kept}"
        )


def log_alpha_of(call):
    """The `log_alpha` with which a gate is called.

    Args:
        call: a node of a Keras model whose operation is a gate.

    Returns:
        A `KerasTensor`, or `None` for a gate that has its own.
    """
    args, kwargs = call.arguments.args, call.arguments.kwargs
    return args[1] if len(args) > 1 else kwargs.get("log_alpha")
