"""Configurations of Keras 3 as configurations of tf_keras."""

import functools
import inspect
import operator

import keras

from l0keras.export.bridge.tfmot import import_tf_keras

# Functions of `keras.activations`, with the name of the same one in tf_keras.
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
# Values with no effect on the numbers, of keys that tf_keras may not know.
HARMLESS = {
    "autocast": True,
    "data_format": "channels_last",
    "rms_scaling": False,
    "use_cudnn": "auto",
}


class Refused(Exception):
    """A layer or object has no equivalent in tf_keras; the text is why."""


@functools.cache
def arguments(kind):
    """The arguments of a class and its parents: a dictionary of defaults."""
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
    """The entries of a configuration that the class in tf_keras takes.

    Args:
        config: the configuration of an object of the class `source`.
        source: the class in Keras 3.
        target: the class in tf_keras.

    Raises:
        Refused: another entry has neither its default value nor a harmless
            one.
    """
    known = {*arguments(target), "activity_regularizer"}
    if issubclass(target, import_tf_keras().layers.RNN):
        # The class takes this argument by `**kwargs`.
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
    """The activation of tf_keras that equals an activation of Keras 3."""
    name = _names().get(function)
    if name is None:
        raise Refused(f"its activation {function!r} is not of Keras")
    if name in SAME_ACTIVATIONS:
        name = SAME_ACTIVATIONS[name]
        return getattr(import_tf_keras().activations, name)
    return carried(name)


@functools.cache
def carried(name, **arguments):
    """An activation of Keras 3 that tf_keras can save, load and clone.

    A function of tf_keras may have the same name and compute something else,
    such as `hard_sigmoid`.
    """
    if keras.backend.backend() != "tensorflow":
        raise Refused(
            f"tf_keras lacks the activation '{name}' of Keras 3, which it can "
            "use on the TensorFlow backend only"
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
    """The tf_keras equivalent of a regularizer, constraint, loss or optimizer.

    Args:
        thing: an object of Keras 3 with a configuration, or `None`.
        module: the module of its class in both, such as `"regularizers"`.
        **changes: entries that replace those of its configuration.

    Raises:
        Refused: the object is not of Keras, or tf_keras has no equivalent.
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
