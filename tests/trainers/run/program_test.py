import pytest
from absl import flags
from absl import logging

from trainers.run import program


def test_refuses_what_is_no_flag():
    flags.FLAGS(["program"])
    level = logging.get_verbosity()
    with pytest.raises(ValueError, match="must be flags.*Received: mnist$"):
        program.start(["program", "mnist"])
    assert logging.get_verbosity() == logging.WARNING
    logging.set_verbosity(level)
