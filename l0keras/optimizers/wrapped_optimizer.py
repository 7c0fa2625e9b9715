import collections

import keras
from keras import ops
from keras.optimizers import schedules

from l0keras.connections.arguments import check_regex
from l0keras.connections.arguments import check_seed
from l0keras.connections.seeds import draw_seed
from l0keras.optimizers.optimizer_groups import OptimizerGroups
from l0keras.optimizers.optimizer_groups import checked
from l0keras.replicas import outside_of_functions


class WrappedOptimizer(keras.optimizers.Optimizer):
    """An optimizer that corrects the weights after each step of another one.

    A subclass defines `_build_sparse` and `_correct`, and may define
    `_prepared` and `_correct_averages`.

    Args:
        inner: a `keras.optimizers.Optimizer`.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer.
    """

    def __init__(self, inner, name, use_ema, ema_momentum):
        _check_inner(inner)
        # For a number Keras would make a variable that nobody reads.
        super().__init__(
            lambda: inner.learning_rate,
            name=name,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
        )
        # Whether `complete` is called by itself after each step, see
        # `callbacks.RewireStorage`.
        self.in_two_parts = False
        # Keras finds optimizers in attributes and lists, and would save the
        # inner one a second time: `build` tracks its variables as own ones.
        self._hidden = collections.deque([inner])

    @property
    def optimizers(self):
        """The inner optimizer, the only entry of a `collections.deque`."""
        return collections.deque(self._hidden)

    @property
    def learning_rate(self):
        return self._hidden[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self._hidden[0].learning_rate = value

    def build(self, variables):
        if self.built:
            return
        with keras.name_scope(self._hidden[0].name):
            self._hidden[0].build(variables)
        for variable in self._hidden[0].variables:
            self._track_variable(variable)
        super().build(variables)
        try:
            # A traced step would contain the assignments of the start.
            with outside_of_functions():
                self._build_sparse(variables)
        except BaseException:
            # Else Keras would go on with an optimizer that is half built.
            self.built = False
            raise

    def _build_sparse(self, variables):
        """Makes the state, and sets weights to 0 so that they are sparse."""
        raise NotImplementedError

    def _prepared(self, grads, variables):
        """The gradients that the inner optimizer gets."""
        return grads

    def _correct(self, learning_rate, is_step):
        """Corrects the weights after the step of the inner optimizer.

        Args:
            learning_rate: the learning rate of the step, a scalar tensor.
            is_step: whether the inner optimizer has moved the weights, a
                boolean tensor; or `True`.
        """
        raise NotImplementedError

    def _correct_averages(self):
        """Corrects the averages of weights after their update."""

    def zeros_for_good(self):
        """Which weights are 0 and stay so, whatever is still to come.

        Returns:
            A dictionary from paths of variables to boolean numpy arrays of
            their shapes; variables without such weights need not be in it.

        Raises:
            ValueError: the optimizer is not built.
        """
        self._check_built()
        return {}

    def _averages(self):
        """The average of each trainable variable, by `_var_key`."""
        return {
            self._var_key(variable): average
            for variable, average in zip(
                self._trainable_variables, self._model_variables_moving_average
            )
        }

    def _check_built(self):
        if not self.built:
            raise ValueError(
                "The optimizer has no connections or groups to count before "
                "it is built: call `fit` or "
                "`optimizer.build(model.trainable_variables)` first."
            )

    def apply(self, grads, trainable_variables=None):
        grads, variables = checked(self, grads, trainable_variables)
        self._hidden[0].apply(self._prepared(grads, variables), variables)
        if not self.in_two_parts:
            self.complete()

    def complete(self):
        """What follows upon a step of the inner optimizer."""
        self._correct(*self._last_step())
        if self.use_ema:
            self._update_model_variables_moving_average(
                self._trainable_variables
            )
            self._correct_averages()
        self._iterations.assign_add(1)

    def _last_step(self):
        """Of the inner optimizer's last step, the arguments of `_correct`."""
        inner = self._hidden[0]
        learning_rate = inner._learning_rate
        # A schedule is one step further than the step was.
        if isinstance(learning_rate, schedules.LearningRateSchedule):
            learning_rate = learning_rate(inner._iterations - 1)
        else:
            learning_rate = inner.learning_rate
        is_step = True
        every = inner.gradient_accumulation_steps
        if every:
            is_step = ops.equal(inner._iterations % every, 0)
        return ops.convert_to_tensor(learning_rate), is_step

    def load_own_variables(self, store):
        """Refuses the state of an optimizer with other variables."""
        names = [variable.path for variable in self.variables]
        shapes = [tuple(variable.shape) for variable in self.variables]
        stored = [tuple(store[str(i)].shape) for i in range(len(store.keys()))]
        if stored != shapes:
            differ = [
                f"{name}: {shape} here, {other} there"
                for name, shape, other in zip(names, shapes, stored)
                if shape != other
            ]
            raise ValueError(
                f"The checkpoint does not fit the optimizer {self.name!r}: it "
                "was saved with another connectivity, budget, choice of "
                "variables or inner optimizer. "
                f"{len(shapes)} variables here, {len(stored)} there; "
                f"{'; '.join(differ)}"
            )
        super().load_own_variables(store)

    def get_config(self):
        return {
            "name": self.name,
            "inner": keras.saving.serialize_keras_object(self._hidden[0]),
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        inner = keras.saving.deserialize_keras_object(
            config["inner"], custom_objects=custom_objects
        )
        return cls(**{**config, "inner": inner})


def _check_inner(inner):
    if not isinstance(inner, keras.optimizers.Optimizer):
        raise ValueError(
            "Argument `inner` must be a Keras optimizer. "
            f"Received: inner={inner!r}"
        )
    scales = isinstance(inner, keras.optimizers.LossScaleOptimizer)
    if scales or inner.loss_scale_factor is not None:
        raise ValueError(
            "Argument `inner` must be an optimizer that does not scale the "
            "loss: wrap this one in a `LossScaleOptimizer` instead. "
            f"Received: {inner.name!r}"
        )
    if inner.use_ema:
        raise ValueError(
            "Argument `inner` must not average weights, because it averages "
            "before this optimizer corrects them: give `use_ema` and "
            f"`ema_momentum` to this optimizer. Received: {inner.name!r} "
            "with use_ema=True"
        )
    if isinstance(inner, (OptimizerGroups, WrappedOptimizer)):
        raise ValueError(
            "Argument `inner` must be one optimizer with one learning rate: "
            "give this optimizer to a group of `OptimizerGroups` instead. "
            f"Received: {inner.name!r}"
        )
    if inner.built:
        raise ValueError(
            "Argument `inner` must be an optimizer that is not yet built. "
            f"Received: {inner.name!r}, which has variables already"
        )


class RewiringOptimizer(WrappedOptimizer):
    """A `WrappedOptimizer` that draws connections at random.

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
        # A drawn seed is kept, so a copy of this optimizer draws the same.
        self.seed = draw_seed() if seed is None else seed

    def _build_sparse(self, variables):
        self._seed = self.add_variable((), "zeros", "int32", name="seed")
        self._seed.assign(self.seed)

    def _must_be_masked(self, variable):
        """Whether the gradients of dormant connections must be 0.

        Dormant connections would count in norms of gradients, and
        constraints would move them.
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
