"""What sparse training is compared with, as optimizers."""

import keras
from keras import ops

from l0keras.optimizers import WrappedOptimizer


@keras.saving.register_keras_serializable("l0keras.trainers")
class FixedConnections(WrappedOptimizer):
    """Keeps weights that are 0 when the training begins.

    Args:
        inner: a `keras.optimizers.Optimizer`.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer.
    """

    def __init__(self, inner, name=None, use_ema=False, ema_momentum=0.99):
        super().__init__(inner, name, use_ema, ema_momentum)

    def _build_sparse(self, variables):
        self._masks = tuple(
            (variable, self._mask(variable))
            for variable in variables
            if len(variable.shape) > 1
        )

    def _mask(self, variable):
        mask = self.add_variable(variable.shape, "zeros", "bool", name="mask")
        mask.assign(ops.not_equal(variable, 0))
        return mask

    def _correct(self, learning_rate, is_step):
        for variable, mask in self._masks:
            zero = ops.zeros((), variable.dtype)
            variable.assign(ops.where(mask, variable, zero))


@keras.saving.register_keras_serializable("l0keras.trainers")
class Shrinkage(WrappedOptimizer):
    """Moves each weight of a kernel towards 0 after each step, at most to it.

    Source: Collins and Kohli, 2014 (arXiv:1412.1442), section 3.

    Args:
        inner: a `keras.optimizers.Optimizer`.
        l1: how far, times the learning rate.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer.
    """

    def __init__(self, inner, l1, name=None, use_ema=False, ema_momentum=0.99):
        super().__init__(inner, name, use_ema, ema_momentum)
        self.l1 = l1

    def _build_sparse(self, variables):
        self._kernels = tuple(v for v in variables if len(v.shape) > 1)

    def _correct(self, learning_rate, is_step):
        for variable in self._kernels:
            step = ops.cast(learning_rate, variable.dtype) * self.l1
            size = ops.maximum(ops.abs(variable) - step, 0)
            variable.assign(ops.sign(variable) * size)

    def get_config(self):
        return {**super().get_config(), "l1": self.l1}
