import contextlib
import importlib
import sys
import warnings

from l0keras.cli.checks import check
from l0keras.cli.errors import expected
from l0keras.cli.errors import short
from l0keras.cli.flags import parse

# What a shell says of a program that was stopped with Ctrl-C.
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Runs the command `l0keras`.

    Args:
        argv: the words behind the name of the program, a list of strings;
            those of this process if `None`.

    Returns:
        The exit code: 0 if all went well, 1 after an error, which stderr
        names, 130 where Ctrl-C stopped it.

    Raises:
        SystemExit: a flag is unknown or has another form (code 2), or
            `--help` or `--version` was asked for (code 0).

    Example:

    >>> main(["strip", "gated.keras", "--output=small.keras"])
    0
    """
    values = parse(argv)
    try:
        check(values)
        command = importlib.import_module(
            f"l0keras.cli.commands.{values.command}"
        )
        with _short_warnings():
            command.run(values)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if values.debug or not isinstance(error, expected()):
            raise
        print(f"error: {short(error)}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _short_warnings():
    """Shows warnings without the place in the code, which is none of ours."""
    with warnings.catch_warnings():
        warnings.showwarning = _show
        yield


def _show(message, category, filename, lineno, file=None, line=None):
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)
