import keras
from keras import ops

from l0keras.regularizers.group_regularizer import GroupRegularizer


@keras.saving.register_keras_serializable("l0keras")
class GroupLasso(GroupRegularizer):
    """The sum of the norms of groups, sum_j w_j |x_j|.

    Source: Yuan and Lin, Journal of the Royal Statistical Society B 68
    (2006), 49-67.

    Args:
        axis: see `GroupRegularizer`: each slice along it is a group.
        group_weights: w_j, a positive number for each group; `None` for the
            square root of its number of weights, as in the paper.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> penalty = GroupLasso(axis=0)
    >>> penalty.prox(kernel, mu=0.01)
    """

    def _w(self, norms, sizes):
        if self.group_weights is None:
            sizes = ops.convert_to_tensor(sizes, dtype=norms.dtype)
            return ops.sqrt(sizes) * ops.ones_like(norms)
        return self._weights(norms)

    def value(self, norms, sizes=1):
        return ops.sum(self._w(norms, sizes) * norms)

    def shrink(self, norms, mu, sizes=1):
        taken = ops.cast(mu, norms.dtype) * self._w(norms, sizes)
        left = ops.maximum(norms - taken, 0)
        return left / ops.where(norms > 0, norms, 1)

    def slope(self, norms, sizes=1):
        some = norms > 0
        weights = self._w(norms, sizes)
        return ops.where(some, weights / ops.where(some, norms, 1), 0)
