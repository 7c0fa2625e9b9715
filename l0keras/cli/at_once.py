"""Answers `l0keras --help` and wrong flags before TensorFlow is there.

The package imports Keras, and Keras its backend, which takes seconds. This
module is the first that the package imports. It does nothing but in a process
that is the command.
"""

import os
import sys


def is_command(argv, original):
    """Whether a process is `l0keras` or `python -m l0keras`.

    Args:
        argv: `sys.argv`. While Python looks for the module of `-m`, it
            begins with `-m`.
        original: `sys.orig_argv`, with the interpreter and its options.
    """
    if argv[:1] == ["-m"]:
        rest = original[len(original) - len(argv) :]
        return rest[:1] == ["l0keras"]
    # Also l0keras.exe and l0keras-script.py, as pip names it on Windows.
    name = os.path.basename(argv[0]) if argv else ""
    return name in ("l0keras", "l0keras.exe", "l0keras-script.py")


def answer():
    """Ends the process where flags alone say that nothing is to be done."""
    # Whoever imports the library does without these.
    from l0keras.cli.checks import check
    from l0keras.cli.flags import parse

    values = parse(sys.argv[1:])
    try:
        check(values)
    except ValueError as error:
        sys.exit(f"error: {error}")


if is_command(sys.argv, sys.orig_argv):
    answer()
    # Errors come as exceptions; of its log, a machine without a GPU is most.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
