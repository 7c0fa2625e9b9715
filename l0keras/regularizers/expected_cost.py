import keras
import numpy as np
from keras import ops

from l0keras import hard_concrete


@keras.saving.register_keras_serializable("l0keras")
class ExpectedCost:
    """The expected cost of a network whose layers are gated on both sides.

    An array of weights is left with as many entries as the numbers of open
    gates along its axes multiply to: a convolution between two gated layers
    with n_in and n_out open channels has n_in * n_out * k^2 weights. This is

        l0 * sum_terms count * prod_axes (constant + sum_g size_g P(z_g != 0))

    and, where one and the same gate is on both axes, the difference between
    P and P^2 for it, so that the expectation is exact for gates that are
    drawn independently of each other.

    Source: Li and Ji, ECML-PKDD 2021 (arXiv:2107.00070), section 3.3, for
    chains of convolutions; other networks follow from the same product.

    Args:
        terms: a list of `(count, axes)`, one for each array of weights.
            `count` is the cost of each combination of indices along the axes.
            An axis is `(constant, {gates: sizes})`: how many indices are not
            gated, and how many each gate is on. `gates` is the position of a
            vector of gates, an integer (a string after loading), and `sizes`
            one number for all of them or a list of one for each.
        units: how many gates each vector has, a list of integers.
        l0: the price of one unit of cost, at least 0.
        temperature, gamma, zeta: the constants of the hard concrete.

    Raises:
        ValueError: `l0` negative, hard concrete constants out of range, or a
            term that names gates that are not there.

    Example:

    >>> # Two 3 x 3 convolutions: 3 -> 16 gates -> 32 gates.
    >>> terms = [(9, [(3, {}), (0, {0: 1})]), (9, [(0, {0: 1}), (0, {1: 1})])]
    >>> penalty = ExpectedCost(terms, [16, 32], l0=1e-6)
    >>> penalty([keras.ops.zeros(16), keras.ops.zeros(32)])
    """

    def __init__(
        self,
        terms,
        units,
        l0=0.0,
        temperature=hard_concrete.TEMPERATURE,
        gamma=hard_concrete.GAMMA,
        zeta=hard_concrete.ZETA,
    ):
        if not l0 >= 0:
            raise ValueError(
                f"Argument `l0` must be at least 0. Received: l0={l0}"
            )
        hard_concrete.check_parameters(temperature, gamma, zeta)
        self.l0 = float(l0)
        self.units = [int(size) for size in units]
        self.temperature = temperature
        self.gamma = gamma
        self.zeta = zeta
        self.terms = [_plain(count, axes) for count, axes in terms]
        self._constant = self._linear = 0.0
        self._compile()

    def _compile(self):
        """Sums up terms of one axis, and lays out the others as matrices."""
        starts = np.concatenate([[0], np.cumsum(self.units)])
        rows, constants, counts = [], [], []
        self._constant, self._linear = 0.0, np.zeros(starts[-1])
        depth = max((len(axes) for _, axes in self.terms), default=0)
        shared = np.zeros(starts[-1])
        for count, axes in self.terms:
            row = np.zeros((len(axes), starts[-1]))
            for own, (_, gates) in zip(row, axes):
                for index, sizes in gates.items():
                    index = int(index)
                    if not 0 <= index < len(self.units):
                        raise ValueError(
                            "Argument `terms` must name gates by their "
                            f"position in {len(self.units)} `units`. "
                            f"Received: {index}"
                        )
                    own[starts[index] : starts[index + 1]] = sizes
            constant = np.array([constant for constant, _ in axes], float)
            gated = np.flatnonzero(row.any(axis=1))
            count = count * np.prod(np.delete(constant, gated))
            row, constant = row[gated], constant[gated]
            if len(gated) == 0:
                self._constant += count
            elif len(gated) == 1:
                self._constant += count * constant[0]
                self._linear += count * row[0]
            else:
                if len(gated) == 2:
                    shared += count * row[0] * row[1]
                missing = depth - len(gated)
                rows.append(np.pad(row, ((0, missing), (0, 0))))
                constants.append(
                    np.pad(constant, (0, missing), constant_values=1.0)
                )
                counts.append(count)
        self._shared = shared if np.any(shared) else None
        self._counts = np.array(counts)
        if counts:
            self._rows = np.stack(rows, axis=1)
            self._constants = np.stack(constants, axis=1)

    def gated(self):
        """Which gates have a part in the cost.

        Returns:
            A numpy array of booleans, all vectors of gates one after another.
        """
        touched = self._linear != 0
        if len(self._counts):
            touched = touched | np.any(self._rows != 0, axis=(0, 1))
        return touched

    def of_open(self, is_open):
        """The cost with gates that are open or closed for certain.

        Args:
            is_open: an array of zeros and ones, all vectors of gates one
                after another.

        Returns:
            A float.
        """
        is_open = np.asarray(is_open, float)
        cost = self._constant + float(self._linear @ is_open)
        if len(self._counts):
            sizes = self._rows @ is_open + self._constants
            cost += float(self._counts @ np.prod(sizes, axis=0))
        return cost

    def of_opening(self, is_open):
        """What each closed gate would add to the cost by itself.

        Args:
            is_open: as in `of_open`.

        Returns:
            A numpy array of all gates; without meaning for open ones.
        """
        is_open = np.asarray(is_open, float)
        added = self._linear + 0.0
        if len(self._counts):
            sizes = self._rows @ is_open + self._constants
            more = np.prod(sizes[..., None] + self._rows, axis=0)
            less = np.prod(sizes, axis=0)[:, None]
            added = added + self._counts @ (more - less)
        return added

    def least(self):
        """The gates that cost least with one of each vector open.

        Returns:
            An array of zeros and ones, all vectors of gates one after
            another.
        """
        each = self._linear + 0.0
        if len(self._counts):
            each = each + np.einsum("atg,t->g", self._rows, self._counts)
        is_open = np.zeros(len(each))
        start = 0
        for size in self.units:
            is_open[start + np.argmin(each[start : start + size])] = 1
            start += size
        return is_open

    def cost(self, probs):
        """The expected cost, not multiplied by the price.

        Args:
            probs: a list of tensors, one for each vector of gates: the
                probability of each to be open.

        Returns:
            A scalar tensor.
        """
        prob = ops.concatenate([ops.reshape(p, (-1,)) for p in probs])
        dtype = prob.dtype

        def constant(array):
            return ops.convert_to_tensor(array, dtype=dtype)

        cost = constant(self._constant)
        cost = cost + ops.sum(constant(self._linear) * prob)
        if len(self._counts):
            depth, terms, gates = self._rows.shape
            rows = constant(self._rows.reshape(-1, gates))
            sizes = ops.matmul(rows, prob[:, None])
            sizes = ops.reshape(sizes, (depth, terms))
            sizes = sizes + constant(self._constants)
            product = ops.prod(sizes, axis=0)
            cost = cost + ops.sum(constant(self._counts) * product)
        if self._shared is not None:
            cost = cost + ops.sum(constant(self._shared) * prob * (1 - prob))
        return cost

    def probs(self, log_alphas):
        """The probability of each gate to be open, for `cost`.

        Args:
            log_alphas: a list of float tensors, one for each vector of gates.

        Returns:
            A list of tensors of the same shapes.
        """
        return [
            hard_concrete.prob_open(
                log_alpha, self.temperature, self.gamma, self.zeta
            )
            for log_alpha in log_alphas
        ]

    def __call__(self, log_alphas):
        """The penalty.

        Args:
            log_alphas: a list of float tensors, one for each vector of gates.

        Returns:
            A scalar tensor.
        """
        penalty = self.l0 * self.cost(self.probs(log_alphas))
        # Keras adds up losses of one dtype.
        return ops.cast(penalty, keras.config.floatx())

    def get_config(self):
        return {
            "terms": self.terms,
            "units": self.units,
            "l0": self.l0,
            "temperature": self.temperature,
            "gamma": self.gamma,
            "zeta": self.zeta,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _plain(count, axes):
    """A term as it can be saved: lists and numbers, strings for keys."""
    return [
        float(count),
        [
            [
                float(constant),
                {
                    str(index): np.asarray(sizes, float).tolist()
                    for index, sizes in gates.items()
                },
            ]
            for constant, gates in axes
        ],
    ]
