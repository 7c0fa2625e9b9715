import numpy as np
from keras import ops


class WeightGroups:
    """Groups of weights that a penalty takes together, say of one layer.

    Args:
        name: a string, by which rules choose penalties.
        size: the number of groups.
        parts: pairs of a variable, or its path, and an integer array that
            broadcasts to it: the group of each weight, -1 for none.

    Attributes:
        name, size: the same.
        paths: the paths of the variables.
        indices: the integer arrays.
    """

    def __init__(self, name, size, parts):
        self.name = name
        self.size = int(size)
        self.paths = [
            getattr(variable, "path", variable) for variable, _ in parts
        ]
        self.indices = [np.asarray(index, "int32") for _, index in parts]
        everything = np.arange(self.size)
        # Most have one weight array for each group, in their order.
        self._in_order = [
            index.size == self.size
            and np.array_equal(index.ravel(), everything)
            for index in self.indices
        ]

    def __repr__(self):
        return f"{self.size} groups of {', '.join(map(repr, self.paths))}"

    def weights(self, shapes):
        """How many weights each group has.

        Args:
            shapes: the shapes of the variables.

        Returns:
            An integer array `(size,)`.
        """
        total = np.zeros(self.size + 1, int)
        for index, shape in zip(self.indices, shapes, strict=True):
            times = np.prod(shape, dtype=int) // index.size
            found = np.bincount(index.ravel() % (self.size + 1))
            total[: len(found)] += found * times
        return total[:-1]

    def dot(self, ones, others):
        """The inner product of each group.

        Args:
            ones, others: lists of tensors of the shapes of the variables.

        Returns:
            A tensor `(size,)`.
        """
        total = 0
        for i, (one, other) in enumerate(zip(ones, others, strict=True)):
            index = self.indices[i]
            axes = tuple(
                axis
                for axis, (size, own) in enumerate(zip(one.shape, index.shape))
                if own == 1 and size != 1
            )
            sums = ops.sum(ops.multiply(one, other), axis=axes, keepdims=True)
            sums = ops.reshape(sums, (-1,))
            if not self._in_order[i]:
                sums = ops.segment_sum(
                    sums,
                    ops.convert_to_tensor(index.ravel() % (self.size + 1)),
                    num_segments=self.size + 1,
                )[: self.size]
            total = total + sums
        return total

    def spread(self, factors, outside=1.0):
        """Gives each weight the factor of its group.

        Args:
            factors: a tensor `(size,)`.
            outside: the factor of weights that belong to none.

        Returns:
            A list of tensors that broadcast to the variables.
        """
        spread = []
        padded = ops.pad(factors, [(0, 1)], constant_values=outside)
        for index, in_order in zip(self.indices, self._in_order):
            own = factors
            if not in_order:
                own = ops.take(padded, index.ravel() % (self.size + 1))
            spread.append(ops.reshape(own, index.shape))
        return spread

    def get_config(self):
        return {
            "name": self.name,
            "size": self.size,
            "parts": [
                [path, index.tolist()]
                for path, index in zip(self.paths, self.indices)
            ],
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)
