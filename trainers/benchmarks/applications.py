"""The networks of `keras.applications` by their names."""

import inspect

import keras


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
