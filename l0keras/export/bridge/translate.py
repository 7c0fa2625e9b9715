"""What Keras 3 says in a configuration, said to tf_keras."""

import functools
import inspect
import operator

import keras

from l0keras.export.bridge.tfmot import import_tf_keras

# Functions of `keras.activations` that are the same there.
SAME_ACTIVATIONS = {
    "elu": "elu",
    "exponential": "exponential",
    "gelu": "gelu",
    "linear": "linear",
    "mish": "mish",
    "relu": "relu",
    "selu": "selu",
    "sigmoid": "sigmoid",
    "silu": "swish",
    "softmax": "softmax",
    "softplus": "softplus",
    "softsign": "softsign",
    "tanh": "tanh",
}
# Values that say nothing, of keys that are no arguments or have other defaults.
HARMLESS = {
    "autocast": True,
    "data_format": "channels_last",
    "rms_scaling": False,
    "use_cudnn": "auto",
}


class Refused(Exception):
    """The reason why something has no equivalent in tf_keras."""


@functools.cache
def arguments(kind):
    """The arguments of a class and its parents, with their defaults."""
    found = {}
    for parent in kind.__mro__:
        if parent is object or "__init__" not in vars(parent):
            continue
        signature = inspect.signature(inspect.unwrap(parent.__init__))
        parameters = list(signature.parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            ):
                found.setdefault(parameter.name, parameter.default)
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return found


def known_only(config, source, target):
    """The part of a configuration that the other class takes.

    What it does not take may be left out where it says nothing.
    """
    known = {*arguments(target), "activity_regularizer"}
    if issubclass(target, import_tf_keras().layers.RNN):
        # It takes this one without naming it.
        known.add("zero_output_for_mask")
    defaults = {**arguments(source), **HARMLESS}
    kept = {}
    for key, value in config.items():
        if key in known:
            kept[key] = value
        elif key not in defaults or not _same(value, defaults[key]):
            raise Refused(f"tf_keras has no `{key}`, and it is {value!r}")
    return kept


def _same(value, default):
    return (
        value is default
        or (type(value) is type(default))
        and (value == default)
    )


def activation(function):
    """The activation of tf_keras that computes what one of Keras 3 does."""
    name = _names().get(function)
    if name is None:
        raise Refused(f"its activation {function!r} is not of Keras")
    if name in SAME_ACTIVATIONS:
        name = SAME_ACTIVATIONS[name]
        return getattr(import_tf_keras().activations, name)
    return carried(name)


@functools.cache
def carried(name, **arguments):
    """A function of Keras 3 that tf_keras can save, load and clone.

    Another function there may have the same name, such as `hard_sigmoid`.
    """
    if keras.backend.backend() != "tensorflow":
        raise Refused(
            f"tf_keras has not the same activation '{name}', and that of "
            "Keras 3 can be lent on the TensorFlow backend only"
        )
    source = getattr(keras.activations, name)

    def function(x):
        return source(x, **arguments)

    function.__name__ = "_".join([name, *arguments])
    register = import_tf_keras().utils.register_keras_serializable
    return register("l0keras", function.__name__)(function)


@functools.cache
def _names():
    return {
        function: name
        for name, function in vars(keras.activations).items()
        if inspect.isfunction(function) and function.__name__ == name
    }


def same_kind(thing, module, **changes):
    """The equivalent of a regularizer, constraint, loss or the like.

    Args:
        thing: an object of Keras 3 with a configuration, or `None`.
        module: where both have it, such as "regularizers".
        **changes: what its configuration shall say instead.
    """
    if thing is None:
        return None
    kind = type(thing)
    name = kind.__name__
    find = operator.attrgetter(module)
    theirs = getattr(find(import_tf_keras()), name, None)
    if getattr(find(keras), name, None) is not kind:
        raise Refused(f"its {_singular(module)} '{name}' is not of Keras")
    if theirs is None:
        raise Refused(f"its {_singular(module)} '{name}' is not in tf_keras")
    config = {**thing.get_config(), **changes}
    return theirs(**known_only(config, kind, theirs))


def _singular(module):
    return {"losses": "loss"}.get(module, module.rpartition(".")[2][:-1])
