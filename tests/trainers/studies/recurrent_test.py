import keras
import pytest

from trainers.studies import recurrent

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


def test_a_loop_is_smaller_than_unrolled_steps(tmp_path):
    row = recurrent.measure("GRU", 4, 20, tmp_path, rounds=1)
    loop, unrolled = row["bytes"]
    assert loop < 0.5 * unrolled
    assert min(row["latency_us"]) > 0
    assert recurrent.table([row]).count("| GRU | 4 | 20 |") == 1
