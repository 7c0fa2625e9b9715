import keras
from keras import ops

from l0keras.regularizers.group_regularizer import GroupRegularizer
from l0keras.regularizers.group_regularizer import check_count
from l0keras.regularizers.group_regularizer import count_of
from l0keras.regularizers.share_budget import share_budget


@keras.saving.register_keras_serializable("l0keras")
class WGSEF(GroupRegularizer):
    """The weighted group sparse envelope: at most k groups, made convex.

    Half the largest convex function that is nowhere above the squared norm
    sum_j d_j |x_j|^2 of what has at most k groups that are not 0:

        S_k(x) = 0.5 * min sum_j d_j |x_j|^2 / u_j
                 over 0 <= u_j <= 1, sum_j u_j <= k      (0 / 0 = 0).

    With k = 1 and d = 1 it is half the squared sum of the groups' norms, with
    as many as there are groups it is ridge regression. In between, the
    largest groups are decayed as by L2, and smaller ones shrink at a common
    rate, whatever their norm, until they are 0.

    A single prox leaves at least k groups, and exactly k only in its limit of
    a large `mu`: how many are left after a training depends on the strength,
    the learning rates and the noise of the gradients too. An optimizer's
    `keep_at` leaves exactly k.

    Source: Refael, Arbel and Huleihel, TMLR 2024 (arXiv:2212.12921), and Beck
    and Refael for singletons. The authors' text was not at hand: the form
    here is the convex envelope worked out from that definition, of which the
    symbols and the normalization of the weights may differ.

    Args:
        k: the number of groups, an integer of at least 1, or a share of them
            in (0, 1], a float; a share is rounded, to at least one group.
        axis: see `GroupRegularizer`: each slice along it is a group.
        group_weights: d_j, a positive number for each group; `None` for 1, so
            that large groups and small ones count the same.

    Raises:
        ValueError: an argument out of its range. On use: `k` more than there
            are groups, or another number of `group_weights`.

    Example:

    >>> envelope = WGSEF(k=2)
    >>> envelope([3.0, -1.0, 0.5, 0.1])
    5.78
    >>> envelope.prox([3.0, -1.0, 0.5, 0.1], mu=0.5)
    [2.0, -0.625, 0.125, 0.0]
    """

    def __init__(self, k, axis=-1, group_weights=None):
        super().__init__(axis, group_weights)
        self.k = check_count("k", k)

    def groups_to_keep(self, groups):
        """The number of groups that `k` stands for.

        Args:
            groups: how many there are.

        Raises:
            ValueError: `k` is more than that.
        """
        return count_of("k", self.k, groups)

    def check_groups(self, groups):
        super().check_groups(groups)
        self.groups_to_keep(groups)

    def _d(self, norms):
        if self.group_weights is None:
            return ops.ones_like(norms)
        return self._weights(norms)

    def weighted(self, norms):
        """By what the groups to keep are chosen: sqrt(d_j) |x_j|."""
        return ops.sqrt(self._d(norms)) * norms

    def shares(self, norms):
        """The u_j of the definition, 0 for groups that are 0.

        Args:
            norms: float `(groups,)`.

        Returns:
            A tensor `(groups,)` of numbers in [0, 1], not differentiable.
        """
        norms = ops.stop_gradient(norms)
        k = self.groups_to_keep(norms.shape[0])
        values = self.weighted(norms)
        return share_budget(values, ops.zeros_like(values), k)

    def value(self, norms, sizes=1):
        # By the envelope theorem the gradient is that with u held fixed.
        shares = self.shares(norms)
        some = shares > 0
        squared = self._d(norms) * ops.square(norms)
        return 0.5 * ops.sum(
            ops.where(some, squared / ops.where(some, shares, 1), 0)
        )

    def shrink(self, norms, mu, sizes=1):
        norms = ops.stop_gradient(norms)
        d = self._d(norms)
        mu_d = ops.cast(mu, norms.dtype) * d
        k = self.groups_to_keep(norms.shape[0])
        shares = share_budget(self.weighted(norms), mu_d, k)
        some = shares > 0
        return ops.where(some, shares / ops.where(some, mu_d + shares, 1), 0)

    def slope(self, norms, sizes=1):
        shares = self.shares(norms)
        some = shares > 0
        return ops.where(some, self._d(norms) / ops.where(some, shares, 1), 0)

    def get_config(self):
        return {"k": self.k, **super().get_config()}
