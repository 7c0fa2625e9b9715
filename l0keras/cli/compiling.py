"""Compile settings that a file does not have, or shall not have."""

import keras

from l0keras.cli.loading import custom_objects

_FLAGS = ("loss", "optimizer", "learning_rate")


def check_compiled(model, values):
    """Refuses a model that nobody knows how to train.

    Args:
        model: a `keras.Model`.
        values: the flags.

    Raises:
        ValueError: neither the model nor the flags say the loss, or they name
            a loss or an optimizer that does not exist.
    """
    if getattr(model, "loss", None) is None and values.loss is None:
        raise ValueError(
            "Argument `loss` must be given, such as "
            "sparse_categorical_crossentropy: MODEL has no compile settings. "
            "Received: none"
        )
    _made(model, values, logits=False)


def compile_as_asked(model, values, data):
    """Compiles a model where flags say how, in the place of its settings.

    Args:
        model: a `keras.Model` that `check_compiled` has passed. It is
            compiled anew if a flag says so, or if it was not.
        values: the flags `loss`, `optimizer` and `learning_rate`.
        data: the `Data`, which knows whether the outputs are logits.
    """
    given = [name for name in _FLAGS if getattr(values, name) is not None]
    if model.compiled and not given:
        return
    optimizer, loss = _made(model, values, data.task.logits)
    settings = dict(model._compile_config.config) if model.compiled else {}
    if not settings.get("metrics"):
        settings["metrics"] = ["accuracy"] if data.classes else []
    model.compile(**{**settings, "optimizer": optimizer, "loss": loss})
    if values.loss is not None and "from_logits" in _config(loss):
        what = "logits" if data.task.logits else "probabilities"
        print(f"Loss: {values.loss} of {what}, as the outputs are")


def _made(model, values, logits):
    """An optimizer and a loss."""
    with keras.saving.custom_object_scope(
        custom_objects(values.custom_objects)
    ):
        loss = model.loss if values.loss is None else _loss(values.loss, logits)
        if values.optimizer is not None:
            optimizer = _named("optimizer", values.optimizer)
        else:
            optimizer = getattr(model, "optimizer", None)
            optimizer = optimizer or keras.optimizers.Adam()
    if values.learning_rate is not None:
        config = optimizer.get_config()
        config["learning_rate"] = values.learning_rate
        optimizer = type(optimizer).from_config(config)
    return optimizer, loss


def _loss(name, logits):
    # Functions and classes have the same names in two ways of writing, and
    # classes alone know of logits.
    camel = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    if hasattr(keras.losses, camel):
        name = camel
    loss = _named("loss", name)
    config = _config(loss)
    if "from_logits" in config:
        loss = type(loss).from_config({**config, "from_logits": logits})
    return loss


def _config(loss):
    if not isinstance(loss, keras.losses.Loss):
        return {}
    return loss.get_config()


def _named(kind, name):
    get = keras.losses.get if kind == "loss" else keras.optimizers.get
    try:
        return get(name)
    except ValueError as error:
        raise ValueError(
            f"Argument `{kind}` must be a name that Keras knows, or one in "
            f"--custom_objects. Received: {kind}={name}"
        ) from error
