import numpy as np
from keras import ops


class WeightGroups:
    """Groups of weights that a penalty takes together, say of one layer.

    Args:
        name: a string, by which rules choose penalties.
        size: the number of groups.
        parts: pairs of a variable, or its path, and an integer array that
            broadcasts to it: the group of each weight, -1 for none.
        counts: how many weights each group has, a list; `None` to count them.

    Attributes:
        name, size: the same.
        paths: the paths of the variables.
        indices: the integer arrays.
    """

    def __init__(self, name, size, parts, counts=None):
        self.name = name
        self.size = int(size)
        self.paths = [
            getattr(variable, "path", variable) for variable, _ in parts
        ]
        self.indices = [np.asarray(index, "int32") for _, index in parts]
        self._counts = None if counts is None else np.asarray(counts, int)
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
        if self._counts is not None:
            return self._counts
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

    def of_parts(self, parts):
        """The same groups of what is left of the variables.

        Args:
            parts: for each variable, by its path, its shape and the positions
                in it, flat, that are left: an integer array of the shape of
                what is left, or `None` for all.

        Returns:
            A `WeightGroups` of as many groups, which count as many weights as
            before; those of which nothing is left are empty.

        Raises:
            NotImplementedError: nothing is left of all groups.
        """
        found, shapes = [], []
        for path, index in zip(self.paths, self.indices):
            [(shape, left)] = [
                part
                for other, part in parts.items()
                if is_same_path(path, other)
            ]
            shapes.append(shape)
            if left is not None:
                index = np.broadcast_to(index, shape).reshape(-1)[left]
            if index.size:
                found.append((path, index))
        if not found:
            raise NotImplementedError(
                f"Nothing is left of the groups {self.name!r}, and an "
                "optimizer cannot do without groups that it began with"
            )
        counts = self.weights(shapes).tolist()
        return type(self)(self.name, self.size, found, counts)

    def get_config(self):
        return {
            "name": self.name,
            "size": self.size,
            "parts": [
                [path, index.tolist()]
                for path, index in zip(self.paths, self.indices)
            ],
            "counts": None if self._counts is None else self._counts.tolist(),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def is_same_path(path, other):
    """Whether two paths are of one variable, with or without its model."""
    return (
        path == other
        or path.endswith("/" + other)
        or other.endswith("/" + path)
    )
