import collections

import keras
from keras import ops

from l0keras.connections.choose import check_regex
from l0keras.connections.choose import check_seed
from l0keras.connections.positions import draw_seed
from l0keras.optimizers.optimizer_groups import OptimizerGroups
from l0keras.optimizers.optimizer_groups import checked
from l0keras.replicas import outside_of_functions


class WrappedOptimizer(keras.optimizers.Optimizer):
    """An optimizer that lets another one make the step, then corrects it.

    A subclass gives `_build_sparse`, `_prepared` and `_correct`.

    Args:
        inner: a `keras.optimizers.Optimizer`.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer.
    """

    def __init__(self, inner, name, use_ema, ema_momentum):
        _check_inner(inner)
        # A function, or else there would be a variable that nobody reads.
        super().__init__(
            lambda: inner.learning_rate,
            name=name,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
        )
        # Keras looks for optimizers in attributes and lists and saves them;
        # but this one's variables are saved already, among its own.
        self._hidden = collections.deque([inner])

    @property
    def optimizers(self):
        """The optimizer that makes the steps, as the only one."""
        # Not as itself, see above.
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
            # A step that is being traced would assign the start each time.
            with outside_of_functions():
                self._build_sparse(variables)
        except BaseException:
            # Keras would go on with an optimizer that is half built.
            self.built = False
            raise

    def _build_sparse(self, variables):
        """Makes the state, and the weights obey the limit."""
        raise NotImplementedError

    def _prepared(self, grads, variables):
        """The gradients that the inner optimizer gets."""
        return grads

    def _correct(self, learning_rate, is_step):
        """What follows the step of the inner optimizer.

        Args:
            learning_rate: that of the step.
            is_step: a boolean tensor: whether the inner optimizer has moved
                the weights; or `True`.
        """
        raise NotImplementedError

    def _correct_averages(self):
        """What follows the update of the averages of weights."""

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
                "The optimizer has something to show once it is built, by "
                "`fit` or by `optimizer.build(model.trainable_variables)`."
            )

    def apply(self, grads, trainable_variables=None):
        grads, variables = checked(self, grads, trainable_variables)
        # Of this step: afterwards a schedule is one step further.
        learning_rate = ops.convert_to_tensor(self._hidden[0].learning_rate) * 1
        is_step = True
        every = self._hidden[0].gradient_accumulation_steps
        if every:
            is_step = ops.equal((self._hidden[0]._iterations + 1) % every, 0)
        self._hidden[0].apply(self._prepared(grads, variables), variables)
        self._correct(learning_rate, is_step)
        if self.use_ema:
            self._update_model_variables_moving_average(
                self._trainable_variables
            )
            self._correct_averages()
        self._iterations.assign_add(1)

    def load_own_variables(self, store):
        """Refuses what was saved by an optimizer of other connections."""
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
            "Argument `inner` must not average weights, which would be "
            "averages from before connections die: give `use_ema` and "
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
            f"Received: {inner.name!r}, which has variables of its own"
        )


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
