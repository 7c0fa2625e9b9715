from l0keras.connections.choose import check_regex
from l0keras.connections.choose import check_seed
from l0keras.connections.positions import draw_seed
from l0keras.optimizers.wrapped_optimizer import WrappedOptimizer


class RewiringOptimizer(WrappedOptimizer):
    """A `WrappedOptimizer` that draws which connections there are.

    Args:
        inner: a `keras.optimizers.Optimizer`.
        include: a regular expression for the paths of the sparse variables,
            or `None`.
        seed: an integer, or `None`.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer.
    """

    def __init__(self, inner, include, seed, name, use_ema, ema_momentum):
        if include is not None:
            check_regex("include", include)
        check_seed(seed)
        super().__init__(inner, name, use_ema, ema_momentum)
        self.include = include
        # Kept, so that a copy of this optimizer draws the same.
        self.seed = draw_seed() if seed is None else seed

    def _build_sparse(self, variables):
        self._seed = self.add_variable((), "zeros", "int32", name="seed")
        self._seed.assign(self.seed)

    def _must_be_masked(self, variable):
        """Whether dormant connections must have no gradient.

        They would have a say in norms, and constraints would move them.
        """
        inner = self._hidden[0]
        clips = inner.clipnorm or inner.global_clipnorm
        return bool(clips) or variable.constraint is not None

    def get_config(self):
        return {
            **super().get_config(),
            "include": self.include,
            "seed": self.seed,
        }
