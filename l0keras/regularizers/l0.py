import keras
import numpy as np
from keras import ops

from l0keras import hard_concrete


@keras.saving.register_keras_serializable("l0keras")
class L0(keras.regularizers.Regularizer):
    """The expected L0 norm of weights behind hard-concrete gates.

    It is called on the gates' `log_alpha` and is

        sum_g P(z_g != 0) * (l0 * group_size_g + 0.5 * l2 * |w_g|^2),

    the expected number of weights left, times `l0`, with the expected L2
    penalty of the same weights (Louizos et al., ICLR 2018, equations 9 and
    12, and appendix A for the L2 part).

    Args:
        l0: the price of one weight, at least 0: the paper's lambda divided by
            the number of training examples, because Keras losses are means.
        l2: the weight decay of the gated weights, at least 0, also divided by
            the number of training examples where a paper gives it for a sum.
            Only counts where `couple` was called.
        group_size: how many weights one gate closes: a number, or an array
            that broadcasts to the shape of `log_alpha`.
        temperature, gamma, zeta: the constants of the hard concrete.

    Raises:
        ValueError: `l0` or `l2` negative, a `group_size` below 0, or hard
            concrete constants out of range.

    Example:

    >>> penalty = L0(l0=0.1 / 60_000, group_size=500)
    >>> penalty(keras.ops.zeros((50,)))  # 50 * 500 * 0.8318 * 0.1 / 60_000
    """

    def __init__(
        self,
        l0=0.0,
        l2=0.0,
        group_size=1,
        temperature=hard_concrete.TEMPERATURE,
        gamma=hard_concrete.GAMMA,
        zeta=hard_concrete.ZETA,
    ):
        for name, value in (("l0", l0), ("l2", l2)):
            # `not >=` also refuses NaN.
            if not value >= 0:
                raise ValueError(
                    f"Argument `{name}` must be at least 0. "
                    f"Received: {name}={value}"
                )
        if not (np.asarray(group_size) >= 0).all():
            raise ValueError(
                "Argument `group_size` must be at least 0 everywhere. "
                f"Received: group_size={group_size}"
            )
        hard_concrete.check_parameters(temperature, gamma, zeta)
        self.l0 = float(l0)
        self.l2 = float(l2)
        # Plain numbers and lists survive saving, numpy's do not.
        self.group_size = np.asarray(group_size).tolist()
        self.temperature = temperature
        self.gamma = gamma
        self.zeta = zeta
        self._squared_norms = None
        self._ungated_squared_norm = None

    def couple(self, squared_norms, ungated_squared_norm=None):
        """Names the weights that the L2 part is about.

        Args:
            squared_norms: a function without arguments that returns the
                squared L2 norm of each gate's weights, of the shape of
                `log_alpha`.
            ungated_squared_norm: a function without arguments that returns
                the squared norm, a scalar, of weights that belong to the
                same layer but to no gate (the bias of a dense layer whose
                input units are gated). They are decayed in full.
        """
        self._squared_norms = squared_norms
        self._ungated_squared_norm = ungated_squared_norm

    def __call__(self, log_alpha):
        prob = hard_concrete.prob_open(
            log_alpha, self.temperature, self.gamma, self.zeta
        )
        if isinstance(self.group_size, (int, float)):
            penalty = self.l0 * self.group_size * ops.sum(prob)
        else:
            size = ops.convert_to_tensor(self.group_size, dtype=prob.dtype)
            penalty = self.l0 * ops.sum(prob * size)
        if self.l2 and self._squared_norms is not None:
            norms = ops.cast(self._squared_norms(), prob.dtype)
            decay = ops.sum(prob * norms)
            if self._ungated_squared_norm is not None:
                ungated = self._ungated_squared_norm()
                decay = decay + ops.cast(ungated, prob.dtype)
            penalty = penalty + 0.5 * self.l2 * decay
        # Keras adds up losses of one dtype.
        return ops.cast(penalty, keras.config.floatx())

    def get_config(self):
        return {
            "l0": self.l0,
            "l2": self.l2,
            "group_size": self.group_size,
            "temperature": self.temperature,
            "gamma": self.gamma,
            "zeta": self.zeta,
        }
