"""Every network of keras.applications, from gates to the LiteRT file."""

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT files need TensorFlow", allow_module_level=True)

from trainers.studies import zoo  # noqa: E402


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.architectures())
def test_zoo(name):
    row = zoo.in_a_process(name, {"seed": 0, "dense_file": False})
    assert row["errors"] == []
