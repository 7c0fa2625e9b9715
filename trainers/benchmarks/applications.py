"""The networks of `keras.applications` by their names."""

import inspect
import re

import keras

CLASSES = 10
SMALLEST = 32


def architectures():
    """All networks of `keras.applications`: functions by their names."""
    return dict(inspect.getmembers(keras.applications, inspect.isfunction))


def check_names(argument, names):
    """Refuses names of other networks.

    Args:
        argument: the name of the flag with the names.
        names: a list of strings.

    Raises:
        ValueError: a name that is none of `architectures()`.
    """
    known = architectures()
    for name in names:
        if name not in known:
            raise ValueError(
                f"Argument `{argument}` must name functions of "
                f"keras.applications: {', '.join(known)}. Received: {name}"
            )


def builder(name):
    """The builder of a network for the smallest images that it allows.

    Args:
        name: a key of `architectures()`.

    Returns:
        A function without arguments that returns a `keras.Model`.
    """
    function = architectures()[name]

    def build(size=SMALLEST):
        return function(
            weights=None,
            classes=CLASSES,
            classifier_activation=None,
            input_shape=(size, size, 3),
        )

    def build_smallest():
        try:
            return build()
        except ValueError as error:
            found = re.search(r"at least (\d+)x", str(error))
            if not found:
                raise
            return build(int(found[1]))

    return build_smallest
