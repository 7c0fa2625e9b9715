import keras
import numpy as np
from keras import ops


class GroupRegularizer(keras.regularizers.Regularizer):
    """A penalty on the Euclidean norms of groups of weights.

    A subclass gives `value`, `shrink` and `slope`, which know nothing of the
    weights but the norms. On a tensor, the groups are its slices along an
    axis; `l0keras.weight_groups` finds others, over several variables, for
    the optimizers that use them.

    Args:
        axis: an integer, or several for groups at each combination of their
            indices.
        group_weights: a positive number for each group, or `None`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, axis=-1, group_weights=None):
        axes = axis if isinstance(axis, (list, tuple)) else [axis]
        whole = all(
            isinstance(a, int) and not isinstance(a, bool) for a in axes
        )
        if not axes or not whole or len(set(axes)) < len(axes):
            raise ValueError(
                "Argument `axis` must be an integer, or several, each another "
                f"one. Received: axis={axis}"
            )
        self.axis = axis if isinstance(axis, int) else tuple(axis)
        if group_weights is not None:
            array = np.asarray(group_weights, dtype="float64")
            # `not >` also refuses NaN.
            if (
                array.ndim != 1
                or not np.all(array > 0)
                or np.isinf(array).any()
            ):
                raise ValueError(
                    "Argument `group_weights` must be a list of finite numbers "
                    f"above 0. Received: group_weights={group_weights}"
                )
            group_weights = array.tolist()
        self.group_weights = group_weights

    # === On norms ===

    def check_groups(self, groups):
        """Refuses a number of groups that the settings do not fit.

        Raises:
            ValueError: `group_weights` of another length.
        """
        given = self.group_weights
        if given is not None and len(given) != groups:
            raise ValueError(
                "Argument `group_weights` must have one number for each of the "
                f"{groups} groups. Received: {len(given)}"
            )

    def value(self, norms, sizes=1):
        """The penalty.

        Args:
            norms: float `(groups,)`, the norm of each group.
            sizes: the number of weights of each group, a number or an array.

        Returns:
            A scalar tensor, differentiable where no norm is 0.
        """
        raise NotImplementedError

    def shrink(self, norms, mu, sizes=1):
        """By what the prox of `mu` times the penalty multiplies each group.

        Args:
            norms, sizes: see `value`.
            mu: a scalar of at least 0.

        Returns:
            A tensor `(groups,)` of numbers in [0, 1].
        """
        raise NotImplementedError

    def slope(self, norms, sizes=1):
        """What each group has to be multiplied by to give the gradient.

        Args:
            norms, sizes: see `value`.

        Returns:
            A tensor `(groups,)`, 0 for groups that are 0.
        """
        raise NotImplementedError

    def weighted(self, norms):
        """By what the largest groups are found, a tensor `(groups,)`."""
        return norms

    def _weights(self, norms):
        return ops.convert_to_tensor(self.group_weights, dtype=norms.dtype)

    # === On a tensor ===

    def __call__(self, x):
        """The penalty of a tensor of any shape, a scalar tensor."""
        x = ops.convert_to_tensor(x)
        norms, sizes = self._norms(x)
        return self.value(ops.reshape(norms, (-1,)), sizes)

    def prox(self, x, mu):
        """The proximal operator, argmin_v 0.5 |v - x|^2 + mu * penalty(v).

        Args:
            x: a float tensor.
            mu: a scalar of at least 0; a step of a proximal method has the
                product of its learning rate and the strength.

        Returns:
            A tensor like `x`.

        Raises:
            ValueError: `mu` is a number below 0.
        """
        if isinstance(mu, (int, float)) and not mu >= 0:
            raise ValueError(
                f"Argument `mu` must be at least 0. Received: mu={mu}"
            )
        x = ops.convert_to_tensor(x)
        norms, sizes = self._norms(x)
        factors = self.shrink(ops.reshape(norms, (-1,)), mu, sizes)
        return x * ops.reshape(factors, norms.shape)

    def gradient(self, x):
        """The gradient of the penalty, 0 for groups that are 0."""
        x = ops.convert_to_tensor(x)
        norms, sizes = self._norms(x)
        factors = self.slope(ops.reshape(norms, (-1,)), sizes)
        return x * ops.reshape(factors, norms.shape)

    def _norms(self, x):
        """The norms of the groups, with axes of 1 to broadcast to `x`."""
        axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        rank = len(x.shape)
        if not all(-rank <= axis < rank for axis in axes):
            raise ValueError(
                f"Argument `axis` must be an axis of the {rank} that `x` has. "
                f"Received: axis={self.axis}"
            )
        own = {axis % rank for axis in axes}
        others = tuple(axis for axis in range(rank) if axis not in own)
        groups = int(np.prod([x.shape[axis] for axis in own]))
        self.check_groups(groups)
        return group_norms(x, others), int(np.prod(x.shape)) // max(groups, 1)

    def get_config(self):
        return {"axis": self.axis, "group_weights": self.group_weights}


def group_norms(x, axes):
    """Euclidean norms along some axes, which stay with a size of 1.

    Their gradient is 0, and not NaN, where they are 0.
    """
    squared = ops.sum(ops.square(x), axis=axes, keepdims=True)
    return root(squared)


def root(squared):
    """A square root whose gradient is 0 at 0."""
    positive = squared > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, squared, 1)), 0)


def check_count(name, k):
    """A number of groups or a share of them, checked.

    Args:
        name: of the argument.
        k: an integer of at least 1, or a share in (0, 1], a float.

    Returns:
        `k`.

    Raises:
        ValueError: something else.
    """
    number = isinstance(k, (int, float)) and not isinstance(k, bool)
    share = number and isinstance(k, float)
    if not number or not (0 < k <= 1 if share else k >= 1):
        raise ValueError(
            f"Argument `{name}` must be a number of groups, an integer of at "
            "least 1, or a share of them in (0, 1], a float. "
            f"Received: {name}={k}"
        )
    return k


def count_of(name, k, groups):
    """The number of groups that `k` stands for.

    Args:
        name: of the argument.
        k: what `check_count` allows; a share is rounded, to at least one.
        groups: how many there are.

    Raises:
        ValueError: `k` is more than that.
    """
    if isinstance(k, float):
        return max(1, round(k * groups))
    if k > groups:
        raise ValueError(
            f"Argument `{name}` must be at most the number of groups, "
            f"{groups}. Received: {name}={k}"
        )
    return k
