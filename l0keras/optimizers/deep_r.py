import keras
import numpy as np
from keras import ops

from l0keras.connections import choose
from l0keras.connections.initial import initial_connections
from l0keras.connections.initial import rng_of
from l0keras.connections.initial import values_of
from l0keras.connections.pools import MaskedPool
from l0keras.connections.pools import joined
from l0keras.connections.pools import members_of
from l0keras.connections.storage_pool import StoragePool
from l0keras.optimizers.wrapped_optimizer import RewiringOptimizer


@keras.saving.register_keras_serializable("l0keras")
class DeepR(RewiringOptimizer):
    """DEEP R: trains with a fixed number of connections, and rewires them.

    Wraps any optimizer and works on any Keras model. Each potential
    connection k has a sign s_k that never changes and a parameter theta_k;
    its weight is s_k * theta_k while it is active and 0 while it is dormant.
    One step:

    1. The inner optimizer makes its step; dormant weights are put back to 0.
    2. Active: theta <- theta - lr * l1 + sqrt(2 * lr * temperature) * noise,
       with the learning rate of that step, so that a schedule applies.
    3. An active connection with theta <= 0 becomes dormant.
    4. As many dormant connections become active with theta = 0, drawn
       uniformly; those that have just died may be drawn again.

    So exactly the same number of connections is active after every step. A
    new connection, whose weight is 0, is gone again after its next step if
    that goes against its sign, or nowhere, as in the authors' code.

    The weights at the start are the initial ones at positions drawn
    uniformly, unless exactly the right number is not 0 already (see
    `init_sparse`): then these are the active ones. Their scale is what the
    initializer gave; the authors draw them from |N(0, 1 / inputs)|, which is
    `keras.initializers.VarianceScaling(1, "fan_in", "untruncated_normal")`.
    Signs are those of the initial weights, and random where these are 0.

    The inner optimizer gets the gradients of dormant connections too, as in
    the authors' later code: its momenta are up to date when a connection
    becomes active, but cannot open it. An optimizer that clips by a norm gets
    gradients of active connections only, or else the far more dormant ones
    would decide about the norm; so does a variable with a constraint.

    With `use_ema`, averages are those of active connections and 0 elsewhere,
    so averaged weights obey the limit too.

    A `l0keras.layers.SparseDense` is rewired in its sparse storage, with the
    connections that it has. Moments of a connection go with it: they start
    from 0 for a new one. It comes with a sign that depends on its position,
    and so returns with it; only signs that `from_dense` took over are
    forgotten. (On JAX, `fit` cannot rewire it: Keras hands an optimizer no
    other variables than the trainable ones there.)

    Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018
    (arXiv:1711.05136), algorithm 1.

    Args:
        inner: a `keras.optimizers.Optimizer` that is not yet built. Momenta,
            schedules, weight decay, clipping and gradient accumulation are
            its own; with the latter, connections change when weights do.
        connectivity: the share of active connections of each sparse variable,
            in (0, 1]; or rules: a list of pairs of a regular expression and a
            share, or a dictionary. The first that is found in a variable's
            `path` (by `re.search`) applies, and a variable that no rule
            takes stays dense. A `SparseDense` has its own connectivity.
        l1: the paper's alpha, at least 0: how much each step takes off theta,
            times the learning rate.
        temperature: the paper's T, at least 0. Its rule of thumb is
            lr * l1^2 / 18.
        budget: `"layer"`: each variable keeps its number of connections;
            `"global"`: all together do. Where a connection is replaced, it
            falls into a variable with a probability in proportion to that
            variable's connectivity and number of dormant connections.
        include: a regular expression for the paths of the sparse variables;
            the others stay dense. `None` chooses every trainable variable
            with `kernel` in its name and at least two axes, and the values of
            each `SparseDense`: kernels of dense, convolutional, recurrent and
            attention layers. Biases and normalization are not among them;
            nor are embeddings, whose rare rows get gradients so seldom that
            they would lose their connections to the others.
        seed: an integer that fixes what is drawn, or `None`.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer.

    Raises:
        ValueError: an argument out of its range. On build: a regular
            expression that finds nothing, a variable that would be left
            without a connection, or `budget="global"` with a `SparseDense`.
            On loading: a checkpoint of other connections.

    Example:

    >>> optimizer = DeepR(
    ...     keras.optimizers.SGD(0.05),
    ...     connectivity=[("logits/", 0.3), (".", 0.01)],
    ... )
    >>> model.compile(optimizer, loss="mse")
    """

    def __init__(
        self,
        inner,
        connectivity=0.01,
        l1=1e-4,
        temperature=0.0,
        budget="layer",
        include=None,
        seed=None,
        name=None,
        use_ema=False,
        ema_momentum=0.99,
    ):
        connectivity = choose.check_connectivity(connectivity)
        l1 = choose.check_at_least_0("l1", l1)
        temperature = choose.check_at_least_0("temperature", temperature)
        if budget not in ("layer", "global"):
            raise ValueError(
                "Argument `budget` must be 'layer' or 'global'. "
                f"Received: budget={budget!r}"
            )
        super().__init__(inner, include, seed, name, use_ema, ema_momentum)
        self.connectivity = connectivity
        self.l1 = l1
        self.temperature = temperature
        self.budget = budget
        self._pools = []

    # === State ===

    def _build_sparse(self, variables):
        super()._build_sparse(variables)
        chosen = choose.choose(variables, self.connectivity, self.include)
        stored = [v for v, _ in chosen if choose.storage_of(v)]
        if stored and self.budget == "global":
            raise ValueError(
                "Argument `budget` must be 'layer' for layers with sparse "
                "storage, which have room for so many connections and no "
                f"more. Received: budget='global' with {stored[0].path!r}"
            )
        counted = [
            (v, count) for v, count in chosen if not choose.storage_of(v)
        ]
        order = {self._var_key(v): index for index, (v, _) in enumerate(chosen)}
        pools = []
        for group in joined(counted, self.budget):
            members = members_of(group)
            pinned = self.budget == "layer"
            pool = MaskedPool(members, pinned, stream=len(pools))
            rngs = [
                rng_of(self.seed, order[self._var_key(m.variable)])
                for m in members
            ]
            self._start(pool, pinned, rngs)
            pools.append(pool)
        for variable in stored:
            pool = StoragePool(variable, stream=len(pools))
            pool.build(self, self._companions(variable))
            pools.append(pool)
        self._pools = tuple(pools)
        self._masked = {
            self._var_key(member.variable)
            for pool in pools
            if isinstance(pool, MaskedPool)
            for member in pool.members
            if self._must_be_masked(member.variable)
        }

    def _start(self, pool, pinned, rngs):
        arrays = [values_of(member.variable) for member in pool.members]
        positions, signs = initial_connections(
            arrays, pool.members, pinned, self.seed, rngs
        )
        pool.build(self, positions, signs)
        active = np.zeros(pool.size, bool)
        active[positions] = True
        for member, array in zip(pool.members, arrays):
            own = active[member.base : member.base + member.size]
            own = own.reshape(array.shape)
            if not np.array_equal(array != 0, own):
                member.variable.assign(np.where(own, array, 0))

    def _companions(self, variable):
        """What optimizers keep for each entry of a variable."""
        # Keras names it after the path of the variable, which is that of
        # others too where nested models have layers of the same names.
        paths = [v.path.replace("/", "_") for v in self._trainable_variables]
        keys = [self._var_key(v) for v in self._trainable_variables]
        own = keys.index(self._var_key(variable))
        rank = paths[:own].count(paths[own])
        by_name = {}
        for other in self.variables:
            owners = [p for p in paths if other.name.startswith(f"{p}_")]
            if owners and max(owners, key=len) == paths[own]:
                by_name.setdefault(other.name, []).append(other)
        return [
            others[rank]
            for others in by_name.values()
            if tuple(others[rank].shape) == tuple(variable.shape)
        ]

    # === Steps ===

    def _prepared(self, grads, variables):
        if not self._masked:
            return grads
        grads = {self._var_key(v): g for g, v in zip(grads, variables)}
        for pool in self._pools:
            if not isinstance(pool, MaskedPool):
                continue
            keys = [self._var_key(m.variable) for m in pool.members]
            if not self._masked.intersection(keys):
                continue
            arrays = [
                grads.get(key, ops.zeros(member.variable.shape))
                for key, member in zip(keys, pool.members)
            ]
            for key, masked in zip(keys, pool.mask(arrays)):
                if key in grads and key in self._masked:
                    grads[key] = masked
        return [grads[self._var_key(v)] for v in variables]

    def _correct(self, learning_rate, is_step):
        for pool in self._pools:
            self._step(pool, learning_rate, is_step)

    def _step(self, pool, learning_rate, is_step):
        dtype = pool.dtype
        learning_rate = ops.cast(learning_rate, dtype)
        signs, weights = pool.read()
        change = -learning_rate * self.l1
        if self.temperature:
            noise = keras.random.normal(
                (pool.slots,),
                dtype=dtype,
                seed=pool.seed(self._seed, 0, self._step_number()),
            )
            change += ops.sqrt(2 * self.temperature * learning_rate) * noise
        if is_step is not True:
            change *= ops.cast(is_step, dtype)
        if self.l1 or self.temperature:
            # Not s * (s * w + change): a weight that is 0 has a sign too.
            weights = weights + signs * change
        dead = weights * signs <= 0
        if is_step is not True:
            dead = ops.logical_and(dead, is_step)
        positions = pool.rewire(
            ops.convert_to_tensor(pool.positions),
            dead,
            self._seed,
            self._step_number(),
        )
        weights = ops.where(dead, ops.zeros((), dtype), weights)
        pool.write(positions, weights, dead)

    def _step_number(self):
        return ops.cast(self._iterations, "int32")

    def _correct_averages(self):
        averages = self._averages()
        for pool in self._pools:
            if isinstance(pool, MaskedPool):
                own = [
                    averages[self._var_key(m.variable)] for m in pool.members
                ]
                for average, masked in zip(own, pool.mask(own)):
                    average.assign(masked)

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        stored = [p for p in self._pools if isinstance(p, StoragePool)]
        if stored:
            raise ValueError(
                "Sparse storage cannot be rewired by a stateless step, which "
                "is how Keras trains on JAX: use a plain `Dense` there, whose "
                "connections are masked, or another optimizer. Received: "
                f"{stored[0].members[0].variable.path!r}"
            )
        return super().stateless_apply(
            optimizer_variables, grads, trainable_variables
        )

    def load_own_variables(self, store):
        indices = {id(v): str(i) for i, v in enumerate(self.variables)}
        for pool in self._pools:
            if not isinstance(pool, MaskedPool):
                continue
            key = indices[id(pool.positions)]
            stored = np.array(store[key] if key in store.keys() else [])
            if stored.shape != (pool.slots,):
                # The error for other shapes says more.
                continue
            inside = (stored >= 0) & (stored < pool.size)
            if not inside.all() or len(np.unique(stored)) < len(stored):
                raise ValueError(
                    f"The checkpoint does not fit the optimizer {self.name!r}: "
                    "its positions are not distinct ones of "
                    f"{[m.variable.path for m in pool.members]}"
                )
        super().load_own_variables(store)

    # === What a caller can read ===

    def _of_each(self, function):
        """By path, in the order of the trainable variables."""
        self._check_built()
        found = {
            member.variable.path: function(pool, index, member)
            for pool in self._pools
            for index, member in enumerate(pool.members)
        }
        paths = [variable.path for variable in self._trainable_variables]
        return {path: found[path] for path in paths if path in found}

    def positions(self):
        """Where the active connections are.

        Returns:
            A dictionary from the path of each sparse variable to a sorted
            int32 array: indices into the variable flattened; for a
            `SparseDense`, into the kernel that it stands for.
        """
        return self._of_each(lambda pool, index, _: pool.positions_of(index))

    def masks(self):
        """Which connections are active.

        Returns:
            A dictionary from the path of each masked variable to a boolean
            array of its shape. Sparse storage is not among them: it would
            need a dense array.
        """
        return {
            path: mask
            for path, mask in self._of_each(_mask_of).items()
            if mask is not None
        }

    def active_shares(self):
        """The share of active connections, by path of the sparse variable."""
        return self._of_each(
            lambda pool, index, member: (
                len(pool.positions_of(index)) / member.size
            )
        )

    def rewired(self):
        """How many connections have been replaced since the start, by path.

        One that has been replaced by itself counts too. With a global budget
        the variable is that of the new connection.
        """
        return self._of_each(lambda pool, index, _: pool.rewired_of(index))

    def get_config(self):
        return {
            **super().get_config(),
            "connectivity": self.connectivity,
            "l1": self.l1,
            "temperature": self.temperature,
            "budget": self.budget,
        }


def _mask_of(pool, index, member):
    if not isinstance(pool, MaskedPool):
        return None
    mask = np.zeros(member.size, bool)
    mask[pool.positions_of(index)] = True
    return mask.reshape(member.variable.shape)
