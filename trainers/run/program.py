"""How every program begins."""

from absl import flags
from absl import logging


def start(argv):
    """Refuses arguments that are not flags, and quietens the libraries.

    Args:
        argv: what `absl.app.run` hands to `main`.

    Raises:
        ValueError: `argv` has more than the program's name.
    """
    # absl shows all that libraries log at INFO unless told otherwise.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        raise ValueError(
            "All arguments must be flags, --name=value. "
            f"Received: {' '.join(argv[1:])}"
        )
