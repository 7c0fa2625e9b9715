import warnings

import keras
from keras import ops

from l0keras.copying import Copier

_optimizers = keras.optimizers


class CompileSettings:
    """How a model was compiled, to compile other models the same way.

    Each model gets an optimizer, losses and metrics of its own: optimizers
    are made anew from their configuration, without the state of the first
    one, and objects are copied with the state that they have, functions
    where they hold some. What a class of one's own keeps of its `compile`
    beside that are attributes, which come along with the model.

    Args:
        model: a compiled `keras.Model`. It is not changed.

    Raises:
        ValueError: `model` is not compiled.
    """

    def __init__(self, model):
        settings = getattr(model, "_compile_config", None)
        if not model.compiled or settings is None or model.optimizer is None:
            raise ValueError(
                "Argument `model` must be compiled, with the optimizer, loss "
                "and metrics that it is to be trained with: call "
                f"`model.compile(...)` first. Received: model '{model.name}', "
                "which has no compile settings"
            )
        self._settings = settings.config
        # Keras wraps optimizers for models in half precision, which it asks
        # for the policy at the time of their construction.
        self._scaled = isinstance(
            model.optimizer, _optimizers.LossScaleOptimizer
        ) and not isinstance(
            self._settings["optimizer"], _optimizers.LossScaleOptimizer
        )

    def compile(self, model, decay_steps=None, parts=None):
        """Compiles another model the same way.

        Args:
            model: a `keras.Model`.
            decay_steps: the number of steps in which a learning rate that is
                a plain number falls to 0, along half a cosine. `None` to
                leave it. Schedules are taken as they are.
            parts: see `fresh_optimizer`.
        """
        settings = {
            name: value if name == "optimizer" else Copier()(value)
            for name, value in self._settings.items()
        }
        for name in ("metrics", "weighted_metrics"):
            for metric in keras.tree.flatten(settings[name]):
                if isinstance(metric, keras.metrics.Metric):
                    metric.reset_state()
        optimizer = fresh_optimizer(settings.pop("optimizer"), parts)
        if decay_steps is not None:
            _decay(optimizer, decay_steps)
        if self._scaled:
            optimizer = _optimizers.LossScaleOptimizer(optimizer)
        # Not the model's own `compile`, which takes other arguments.
        keras.Model.compile(model, optimizer, **settings)

    def losses(self, model):
        """The loss of each output of a model, and its weight.

        Args:
            model: a functional `keras.Model` with the outputs of the first.

        Returns:
            A list of pairs, in the order of the flattened outputs: a loss as
            it was given (a name, a function, an object or `None`), and a
            number.
        """
        losses = self._by_output(model, self._settings["loss"], None)
        weights = self._by_output(model, self._settings["loss_weights"], 1.0)
        return [
            (loss, 1.0 if weight is None else weight)
            for loss, weight in zip(losses, weights)
        ]

    def _by_output(self, model, given, otherwise):
        names = [[name] for name in model.output_names]
        if isinstance(model.output, dict):
            for known, key in zip(names, sorted(model.output)):
                known.append(key)
        if isinstance(given, dict):
            return [
                next((given[n] for n in known if n in given), otherwise)
                for known in names
            ]
        if isinstance(given, (list, tuple)):
            flat = keras.tree.flatten(given)
            return [*flat, *[otherwise] * len(names)][: len(names)]
        return [given] * len(names)


def unwrapped(loss):
    """The function that a loss is made of, and its arguments.

    Args:
        loss: a name, a function, a `keras.losses.Loss` or `None`.

    Returns:
        A pair: what is inside of Keras's objects and of partial functions, or
        `loss` itself; and a dictionary.
    """
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    given = getattr(loss, "_fn_kwargs", getattr(loss, "keywords", {}))
    return getattr(loss, "fn", getattr(loss, "func", loss)), given


def fresh_optimizer(optimizer, parts=None):
    """An optimizer with the settings of another, and none of its state.

    Args:
        optimizer: a `keras.optimizers.Optimizer`. It is not changed.
        parts: what is left of the variables that it trains, for optimizers
            whose settings are about these; see `WeightGroups.of_parts`.
            `None` for the same variables.
    """
    if parts is not None and hasattr(optimizer, "for_parts"):
        return optimizer.for_parts(parts)
    if not _is_configured(type(optimizer)):
        return _emptied(optimizer)
    if isinstance(optimizer, _optimizers.LossScaleOptimizer):
        return type(optimizer)(
            fresh_optimizer(optimizer.inner_optimizer, parts),
            initial_scale=optimizer.initial_scale,
            dynamic_growth_steps=optimizer.dynamic_growth_steps,
            name=optimizer.name,
        )
    with warnings.catch_warnings():
        # Of functions that Keras cannot name.
        warnings.simplefilter("ignore")
        try:
            config = optimizer.get_config()
        except NotImplementedError:
            # Such as that of a schedule without a configuration.
            return _emptied(optimizer)
    rate = getattr(optimizer, "_learning_rate", None)
    if "learning_rate" in config and not isinstance(rate, keras.Variable):
        # Its class need not be known to Keras.
        config["learning_rate"] = rate
    return type(optimizer).from_config(config)


def _is_configured(kind):
    """Whether the configuration of a class has all of its arguments."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] == "keras":
            return True
        if "get_config" in vars(base):
            return True
        if "__init__" in vars(base):
            return False
    return True


def _emptied(optimizer):
    """A copy of an optimizer as an object, as if it was never used."""
    new = Copier()(optimizer)
    kept = (new._iterations, new._learning_rate)
    for variable in list(new._variables):
        if not any(variable is one for one in kept):
            new._untrack_variable(variable)
    new._iterations.assign(0)
    new.built = False
    new._trainable_variables = []
    new._trainable_variables_indices = {}
    return new


def _decay(optimizer, steps):
    inner = getattr(optimizer, "optimizers", None)
    if isinstance(optimizer, _optimizers.LossScaleOptimizer):
        inner = [optimizer.inner_optimizer]
    if inner:
        for one in inner:
            _decay(one, steps)
    elif isinstance(optimizer._learning_rate, keras.Variable):
        # Steps whose gradients are only added up count, too.
        optimizer.learning_rate = _optimizers.schedules.CosineDecay(
            float(ops.convert_to_numpy(optimizer._learning_rate)), steps
        )
