"""Why a layer stays closed."""

import re


class Closed(Exception):
    """The reason why a layer cannot be opened."""


class CannotRun(Closed):
    """It cannot be traced, or not be run as it was traced."""


class NotShown(CannotRun):
    """Variables are read for what is a constant in its graph."""


class DependsOnSize(CannotRun):
    """What is in a layer depends on a size that is not known."""


def message(error):
    """What an error says, in one line."""
    text = str(error)
    # Keras says first where an error was, then the error in bold.
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL)
    lines = (bold.group(1) if bold else text).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
