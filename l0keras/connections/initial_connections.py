"""The connections of DEEP R before the first step."""

import keras
import numpy as np
from keras import ops

from l0keras.connections.arguments import check_connectivity
from l0keras.connections.arguments import check_regex
from l0keras.connections.arguments import check_seed
from l0keras.connections.positions import draw_positions
from l0keras.connections.positions import signs_at
from l0keras.connections.seeds import draw_seed
from l0keras.connections.sparse_variables import sparse_variables
from l0keras.connections.sparse_variables import storage_of


def values_of(variable):
    """The values of a variable as an array.

    Raises:
        RuntimeError: a step is being traced, in which variables have no
            values.
    """
    try:
        return np.array(ops.convert_to_numpy(variable))
    except (TypeError, NotImplementedError, AttributeError) as error:
        raise RuntimeError(
            "The first connections cannot be drawn while a step is being "
            "traced: call `optimizer.build(model.trainable_variables)` "
            "before the step."
        ) from error


def initial_connections(arrays, members, pinned, seed, rngs):
    """The active connections of a pool at the start, and all signs.

    If the arrays have exactly the right number of entries that are not 0,
    these are the active ones. Otherwise they are drawn.

    Args:
        arrays: the values of each member's variable.
        members: the members of the pool.
        pinned: whether each member has its own number of connections.
        seed: an integer.
        rngs: a `numpy.random.Generator` for each member.

    Returns:
        Positions in the pool, int32 `(slots,)`, and signs, int8 `(size,)`.
    """
    nonzero = [np.flatnonzero(array).astype("int32") for array in arrays]
    counts = [member.count for member in members]
    taken_over = [len(own) == n for own, n in zip(nonzero, counts)]
    if not pinned:
        total = sum(len(own) for own in nonzero) == sum(counts)
        taken_over = [total] * len(members)
    positions = []
    for index, member in enumerate(members):
        own = nonzero[index]
        if not taken_over[index]:
            own = draw_positions(member.size, member.count, rngs[index])
        positions.append(own + np.int32(member.base))
    values = np.concatenate([array.reshape(-1) for array in arrays])
    everywhere = ops.arange(len(values), dtype="int32")
    random = ops.convert_to_numpy(signs_at(everywhere, seed))
    return np.concatenate(positions), signs_of(values, random)


def signs_of(values, others):
    """The signs of values as int8, and the sign in `others` for a 0."""
    # Cast first: numpy cannot join integers with bfloat16.
    own, others = (
        np.asarray(a).astype("int8") for a in (np.sign(values), others)
    )
    return np.where(own == 0, others, own)


def rng_of(seed, index):
    """The generator for the start of the sparse variable of an index."""
    return np.random.default_rng([seed, index])


def init_sparse(
    model: keras.Model,
    connectivity: float | list | dict = 0.01,
    include: str | None = None,
    seed: int | None = None,
) -> dict[str, int]:
    """Makes the weights of a model sparse before it is trained.

    It changes the model in place. In each variable that `DeepR` with the
    same arguments would make sparse, a share `connectivity` of the entries,
    drawn uniformly without replacement, keeps its values; all others are set
    to 0. `DeepR` then starts from exactly these connections, and so can a
    baseline with a fixed random mask.

    Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018
    (arXiv:1711.05136), where the start is a random sparse network.

    Args:
        model: a built `keras.Model`.
        connectivity, include: see `DeepR`.
        seed: an integer that fixes the positions, or `None`.

    Returns:
        A dictionary from the path of each sparse variable to its number of
        connections. A `SparseDense` is sparse already: it is counted and not
        changed.

    Raises:
        ValueError: see `DeepR`; or the model is not built.

    Example:

    >>> counts = init_sparse(model, connectivity=0.01, seed=0)
    >>> model.compile(DeepR(keras.optimizers.SGD(0.05), 0.01), loss="mse")
    """
    connectivity = check_connectivity(connectivity)
    if include is not None:
        check_regex("include", include)
    check_seed(seed)
    if not model.built:
        raise ValueError(
            "Argument `model` must be built, or it has no weights. "
            f"Received: model={model.name!r}"
        )
    if seed is None:
        seed = draw_seed()
    chosen = sparse_variables(model.trainable_variables, connectivity, include)
    found = {}
    for index, (variable, count) in enumerate(chosen):
        found[variable.path] = count
        if storage_of(variable) is not None:
            continue
        array = values_of(variable)
        keep = draw_positions(array.size, count, rng_of(seed, index))
        flat = np.zeros(array.size, array.dtype)
        flat[keep] = array.reshape(-1)[keep]
        variable.assign(flat.reshape(array.shape))
    return found
