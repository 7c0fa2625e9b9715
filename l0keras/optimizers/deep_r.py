import keras
import numpy as np
from keras import ops
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.backend.common.stateless_scope import in_stateless_scope

from l0keras.connections.arguments import check_at_least_0
from l0keras.connections.arguments import check_connectivity
from l0keras.connections.initial_connections import initial_connections
from l0keras.connections.initial_connections import rng_of
from l0keras.connections.initial_connections import values_of
from l0keras.connections.masked_pool import MaskedPool
from l0keras.connections.pool import divide_into_pools
from l0keras.connections.pool import members_of
from l0keras.connections.sparse_variables import sparse_variables
from l0keras.connections.sparse_variables import storage_of
from l0keras.connections.storage_pool import StoragePool
from l0keras.connections.storage_pool import companions_of
from l0keras.optimizers.wrapped_optimizer import RewiringOptimizer


@keras.saving.register_keras_serializable("l0keras")
class DeepR(RewiringOptimizer):
    """DEEP R: trains with a fixed number of connections, and rewires them.

    Wraps any optimizer and works on any Keras model. Each potential
    connection k has a sign s_k that never changes and a parameter theta_k;
    its weight is s_k * theta_k while it is active and 0 while it is dormant.
    One step:

    1. The inner optimizer makes its step; dormant weights are set to 0 again.
    2. Active: theta <- theta - lr * l1 + sqrt(2 * lr * temperature) * noise,
       with the learning rate of the current step, so schedules apply.
    3. An active connection with theta <= 0 becomes dormant.
    4. As many dormant connections become active with theta = 0, drawn
       uniformly; connections that have just died may be drawn again.

    So exactly the same number of connections is active after every step. A
    new connection has the weight 0. As in the authors' code, it dies in the
    next step if this step moves it against its sign or does not move it.

    Active connections at the start are drawn uniformly and keep their initial
    weights. If a model has exactly the right number of weights other than 0
    (see `init_sparse`), these are the active ones. The initializer of a layer
    sets the scale of its weights; the authors draw them from
    |N(0, 1 / inputs)|, in Keras
    `keras.initializers.VarianceScaling(1, "fan_in", "untruncated_normal")`.
    Each connection has the sign of its initial weight, and a random sign if
    this weight is 0.

    The inner optimizer gets the gradients of dormant connections too, as in
    the authors' later code: momenta are up to date when a connection becomes
    active, but they cannot open it. Gradients of dormant connections are 0 in
    two cases: if the inner optimizer clips by a norm, which the many dormant
    connections would dominate, and if the variable has a constraint.

    With `use_ema`, averages of dormant connections are 0, so averaged weights
    obey the limit too.

    A `l0keras.layers.SparseDense` is rewired in its sparse storage and keeps
    its number of connections. The moments of a connection move with it and
    start from 0 for a new one. The sign of a new connection depends on its
    position only, so a connection returns with its former sign, except for
    signs that `from_dense` took over. (On JAX, `fit` needs the callback
    `RewireStorage` for it: there Keras hands an optimizer the trainable
    variables only.)

    Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018
    (arXiv:1711.05136), algorithm 1.

    Args:
        inner: a `keras.optimizers.Optimizer` that is not yet built. It brings
            its momenta, schedule, weight decay, clipping and gradient
            accumulation; with accumulation, connections change only when
            weights do.
        connectivity: the share of active connections of each sparse variable,
            in (0, 1]; or rules: a list of pairs of a regular expression and a
            share, or a dictionary. The first rule that is found in a
            variable's `path` (by `re.search`) applies; a variable without a
            rule stays dense. A `SparseDense` has its own connectivity.
        l1: the paper's alpha, at least 0. Each step takes the learning rate
            times `l1` off theta.
        temperature: the paper's T, at least 0. Its rule of thumb is
            lr * l1^2 / 18.
        budget: `"layer"`: each variable keeps its number of connections;
            `"global"`: all variables together keep theirs. A new connection
            then falls into a variable with a probability in proportion to the
            connectivity of the variable times its number of dormant
            connections.
        include: a regular expression for the paths of the sparse variables;
            the others stay dense. `None` chooses every trainable variable
            with `kernel` in its name and at least two axes, and the values of
            each `SparseDense`: kernels of dense, convolutional, recurrent and
            attention layers. Biases and normalization stay dense. So do
            embeddings: rows of rare tokens seldom get gradients, and would
            lose their connections to other rows.
        seed: an integer that fixes all random draws, or `None`.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer.

    Raises:
        ValueError: an argument out of its range. On build: a regular
            expression finds no variable, a variable would have no connection,
            or `budget` is `"global"` with a `SparseDense`. On loading: the
            checkpoint has other connections.

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
        connectivity = check_connectivity(connectivity)
        l1 = check_at_least_0("l1", l1)
        temperature = check_at_least_0("temperature", temperature)
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
        chosen = sparse_variables(variables, self.connectivity, self.include)
        stored = [v for v, _ in chosen if storage_of(v)]
        if stored and self.budget == "global":
            raise ValueError(
                "Argument `budget` must be 'layer' for layers with sparse "
                "storage: their number of connections is fixed. "
                f"Received: budget='global' with {stored[0].path!r}"
            )
        counted = [(v, count) for v, count in chosen if not storage_of(v)]
        order = {self._var_key(v): index for index, (v, _) in enumerate(chosen)}
        pools = []
        for pairs in divide_into_pools(counted, self.budget):
            members = members_of(pairs)
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
            pool.build(
                self, companions_of(self, self._trainable_variables, variable)
            )
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
            if isinstance(pool, StoragePool):
                if self.in_two_parts:
                    continue
                _check_reached(pool)
            self._step(pool, learning_rate, is_step)

    def rewire_storage(self):
        """Rewires sparse storage before `complete`, for steps in two parts."""
        step = self._last_step()
        for pool in self._pools:
            if isinstance(pool, StoragePool):
                self._step(pool, *step)

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
            # The stored signs: a weight of 0 has a sign too.
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

    def load_own_variables(self, store):
        indices = {id(v): str(i) for i, v in enumerate(self.variables)}
        for pool in self._pools:
            if not isinstance(pool, MaskedPool):
                continue
            key = indices[id(pool.positions)]
            stored = np.array(store[key] if key in store.keys() else [])
            if stored.shape != (pool.slots,):
                # `super` refuses other shapes with a longer message.
                continue
            if not pool.are_positions(stored):
                raise ValueError(
                    f"The checkpoint does not fit the optimizer {self.name!r}: "
                    "it must have distinct positions of connections in "
                    f"{[m.variable.path for m in pool.members]}"
                )
        super().load_own_variables(store)

    # === Reading the connections ===

    def _of_each(self, function):
        """Function values by path, in the order of the trainable variables."""
        self._check_built()
        found = {
            member.variable.path: function(pool, index, member)
            for pool in self._pools
            for index, member in enumerate(pool.members)
        }
        paths = [variable.path for variable in self._trainable_variables]
        return {path: found[path] for path in paths if path in found}

    def positions(self):
        """The positions of the active connections.

        Returns:
            A dictionary from the path of each sparse variable to a sorted
            int32 array of indices into the flattened variable; for a
            `SparseDense`, into the flattened kernel that it represents.

        Raises:
            ValueError: the optimizer is not built.
        """
        return self._of_each(lambda pool, index, _: pool.positions_of(index))

    def masks(self):
        """Which connections are active.

        Returns:
            A dictionary from the path of each masked variable to a boolean
            array of its shape. Sparse storage has no mask, which would be a
            dense array.

        Raises:
            ValueError: the optimizer is not built.
        """
        found = self._of_each(lambda pool, index, _: pool.mask_of(index))
        return {path: mask for path, mask in found.items() if mask is not None}

    def active_shares(self):
        """The share of active connections, by path of the sparse variable."""
        return self._of_each(
            lambda pool, index, member: (
                len(pool.positions_of(index)) / member.size
            )
        )

    def rewired(self):
        """The number of connections replaced since the start, by path.

        A connection that is drawn again at once counts as replaced. With a
        global budget, a replacement counts for the variable of the new
        connection.
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


def _check_reached(pool):
    """Raises where a stateless step would lose what becomes of positions."""
    scope = get_stateless_scope() if in_stateless_scope() else None
    if scope is not None and scope.get_current_value(pool.positions) is None:
        raise ValueError(
            "Keras trains on JAX with stateless steps, and hands them no "
            "positions of sparse storage: give `fit` the callback "
            "`l0keras.callbacks.RewireStorage()`, or use a plain `Dense`, "
            "whose connections are masked. Received: "
            f"{pool.members[0].variable.path!r}"
        )
