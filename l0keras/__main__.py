"""`python -m l0keras`, the same as the command `l0keras`."""

import sys

from l0keras.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
