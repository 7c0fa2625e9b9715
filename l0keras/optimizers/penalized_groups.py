"""The groups of weights that `ProximalSGD` and `HSPG` penalize."""

import collections

import numpy as np
from keras import ops

# The stages of a training that set groups to 0, in their order.
STAGES = ("prox", "half_space", "top_k")
PROX, HALF_SPACE, TOP_K = range(len(STAGES))


class PenalizedGroups:
    """Groups of weights in the variables of a model that is trained.

    Args:
        groups: a `WeightGroups`.
        variables: the trainable variables of the model.
        regularizer: a `GroupRegularizer`.
        strength: a float, the lambda of these groups.
        asked: the number of groups to keep, or `None`.
        taken: masks of the weights that are in a group already, by path. It
            is updated.

    Attributes:
        variables: the variables of the groups.
        sizes: the number of weights of each group.
        zeros: an int32 variable `(stages,)` of the optimizer: the number of
            groups that were 0 after the last step of each stage.
        before, was: the weights and the norms of the groups before the
            current step.

    Raises:
        ValueError: the groups do not fit the variables.
    """

    def __init__(self, groups, variables, regularizer, strength, asked, taken):
        own = [
            find_variable("groups", path, variables) for path in groups.paths
        ]
        for variable, index in zip(own, groups.indices):
            _check_fits(variable, index, taken)
        self.groups = groups
        # Not a list, in which Keras would look for state.
        self.variables = collections.deque(own)
        self.regularizer = regularizer
        self.strength = strength
        self.asked = asked
        self.sizes = groups.weights([variable.shape for variable in own])
        self.zeros = None
        self.before = self.was = None

    def values(self):
        return [ops.convert_to_tensor(v) for v in self.variables]

    def counts(self):
        """The counts of `ProximalSGD.zero_groups`."""
        values = self.values()
        norms = ops.convert_to_numpy(self.groups.dot(values, values))
        found = {
            "name": self.groups.name,
            "groups": self.groups.size,
            "asked": self.asked,
            "kept": int(np.sum(norms > 0)),
        }
        before = 0
        for stage, count in zip(STAGES, ops.convert_to_numpy(self.zeros)):
            # The count of a stage that did not happen is still 0.
            found[stage] = max(int(count) - before, 0)
            before = max(before, int(count))
        return found


def find_variable(name, path, variables):
    """The variable of a path, with or without the name of the model.

    Args:
        name: the name of the argument that has the path, for errors.
        path: a string.
        variables: the trainable variables of a model.

    Raises:
        ValueError: it is not the path of exactly one of them.
    """
    ends = [
        v
        for v in variables
        if v.path == path
        or v.path.endswith("/" + path)
        or path.endswith("/" + v.path)
    ]
    exact = [v for v in ends if v.path == path] or ends
    if len(exact) != 1:
        raise ValueError(
            f"Argument `{name}` must be about the trainable variables of "
            f"the model that is trained. Received: {path!r}, which is the "
            f"path of {len(exact)} of "
            f"{[variable.path for variable in variables]}"
        )
    return exact[0]


def _check_fits(variable, index, taken):
    try:
        fits = len(index.shape) == len(variable.shape) and (
            np.broadcast_shapes(index.shape, tuple(variable.shape))
            == tuple(variable.shape)
        )
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            "Argument `groups` must fit the variables of the model that is "
            f"trained. Received: groups of shape {index.shape} for "
            f"{variable.path!r} of shape {tuple(variable.shape)}"
        )
    mask = taken.setdefault(variable.path, np.zeros(variable.shape, bool))
    own = np.broadcast_to(index >= 0, mask.shape)
    if np.any(mask & own):
        raise ValueError(
            "Argument `groups` must have each weight in one group at most. "
            f"Received: several groups with one weight of {variable.path!r}"
        )
    mask |= own
