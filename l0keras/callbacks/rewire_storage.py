import keras

from l0keras.optimizers import DeepR


class RewireStorage(keras.callbacks.Callback):
    """Lets `fit` rewire layers with sparse storage on JAX.

    There Keras trains with stateless steps, which hand an optimizer the
    trainable variables and its own, but not the positions of connections,
    which a `l0keras.layers.SparseDense` keeps. This callback lets the second
    part of a step of `l0keras.optimizers.DeepR` follow upon each of Keras's
    steps. On TensorFlow, where the optimizer does all by itself, it does
    nothing.

    Raises:
        ValueError: on JAX, when training begins: the optimizer of the model
            is no `DeepR`, or `steps_per_execution` is not 1.

    Example:

    >>> model.compile(l0keras.optimizers.DeepR(keras.optimizers.Adam()), "mse")
    >>> model.fit(x, y, callbacks=[l0keras.callbacks.RewireStorage()])
    """

    def __init__(self):
        super().__init__()
        self._step = None

    def on_train_begin(self, logs=None):
        if keras.backend.backend() != "jax":
            return
        model, optimizer = self.model, self.model.optimizer
        if not isinstance(optimizer, DeepR):
            raise ValueError(
                "`RewireStorage` must be given to a model that is compiled "
                f"with `DeepR`. Received: {type(optimizer).__name__}"
            )
        if model.steps_per_execution != 1:
            raise ValueError(
                "Argument `steps_per_execution` of `compile` must be 1 with "
                "`RewireStorage`, which acts after each step. Received: "
                f"steps_per_execution={model.steps_per_execution}"
            )
        # Training that ended with an error has left both, which fit together.
        if not optimizer.in_two_parts:
            optimizer.in_two_parts = True
            self._step = model.train_function
            model.train_function = _completed(model, self._step)

    def on_train_end(self, logs=None):
        if self._step is not None:
            self.model.optimizer.in_two_parts = False
            # Keras makes it anew, or it would go on to make half a step.
            self.model.train_function = None
            self._step = None


def _completed(model, step):
    """A training function that completes the optimizer's step, too."""
    import jax

    def changed(function, *states):
        """What a function on the model's variables makes of their states."""
        variables = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
        )
        pairs = [
            pair
            for own, state in zip(variables, states, strict=True)
            for pair in zip(own, state, strict=True)
        ]
        with keras.StatelessScope(state_mapping=pairs) as scope:
            function()
        return tuple(
            [scope.get_current_value(variable) for variable in own]
            for own in variables
        )

    def complete(*states):
        return changed(model.optimizer.complete, *states)

    compiled = complete if model.run_eagerly else jax.jit(complete)

    def train_function(state, iterator):
        logs, (*states, metrics) = step(state, iterator)
        # Not compiled: with known numbers, the host draws several times faster.
        states = changed(model.optimizer.rewire_storage, *states)
        return logs, (*compiled(*states), metrics)

    return train_function
