import numpy as np
from keras import ops

from l0keras.connections import choose
from l0keras.connections.positions import draw_positions
from l0keras.connections.positions import draw_seed
from l0keras.connections.positions import signs_at


def values_of(variable):
    """The values of a variable as an array.

    Raises:
        RuntimeError: they cannot be read while a function is traced.
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
    """The first active positions of a pool, and the signs of all.

    Args:
        arrays: the values of each member's variable.
        members: the members of the pool.
        pinned: whether each member has its own number of connections.
        seed: an integer.
        rngs: a `numpy.random.Generator` for each member.

    Returns:
        int32 positions `(slots,)` in the pool, and int8 signs `(size,)`.
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
    """The signs of values as int8, and other ones where these are 0."""
    # As int8 before they are joined: numpy joins no integers with bfloat16.
    own, others = (
        np.asarray(a).astype("int8") for a in (np.sign(values), others)
    )
    return np.where(own == 0, others, own)


def rng_of(seed, index):
    """The draws for the start of one of the sparse variables."""
    return np.random.default_rng([seed, index])


def init_sparse(model, connectivity=0.01, include=None, seed=None):
    """Makes the weights of a model sparse before it is trained.

    It changes the model: of each variable that `DeepR` with the same
    arguments would make sparse, all entries but a share are set to 0, at
    positions drawn uniformly without replacement. The others keep their
    values. `DeepR` then starts from exactly these connections. A baseline of
    a fixed random mask starts from them as well.

    Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018
    (arXiv:1711.05136), where the start is a random sparse network.

    Args:
        model: a built `keras.Model`.
        connectivity, include: see `DeepR`.
        seed: an integer that fixes the positions, or `None`.

    Returns:
        A dictionary from the path of each sparse variable to its number of
        connections. A `SparseDense` has been sparse before, and is only
        counted.

    Raises:
        ValueError: see `DeepR`; or a model that is not built.
    """
    connectivity = choose.check_connectivity(connectivity)
    if include is not None:
        choose.check_regex("include", include)
    choose.check_seed(seed)
    if not model.built:
        raise ValueError(
            "Argument `model` must be built, or it has no weights. "
            f"Received: model={model.name!r}"
        )
    if seed is None:
        seed = draw_seed()
    chosen = choose.choose(model.trainable_variables, connectivity, include)
    found = {}
    for index, (variable, count) in enumerate(chosen):
        found[variable.path] = count
        if choose.storage_of(variable) is not None:
            continue
        array = values_of(variable)
        keep = draw_positions(array.size, count, rng_of(seed, index))
        flat = np.zeros(array.size, array.dtype)
        flat[keep] = array.reshape(-1)[keep]
        variable.assign(flat.reshape(array.shape))
    return found
