"""Errors that end the command with one line."""

import re
import sys


def expected():
    """The types of errors that say themselves what is wrong, a tuple."""
    kinds = [ValueError, RuntimeError, ImportError, OSError]
    if "tensorflow" in sys.modules:
        # Such as of an image that cannot be read in the middle of a training.
        kinds.append(sys.modules["tensorflow"].errors.OpError)
    return tuple(kinds)


def short(error):
    """The text of an error, without the places in TensorFlow's graph.

    Args:
        error: an exception.

    Returns:
        A string, which is not empty.
    """
    text = str(error)
    if "{{" in text:
        text = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*", "", text)
        text = " ".join(text.split())
    return text.strip() or type(error).__name__
