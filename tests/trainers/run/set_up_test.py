import keras
import pytest
import tensorflow as tf

from trainers.run import program


@pytest.mark.parametrize("name", ["num_threads", "num_logical_cpus"])
def test_refuses_negative_numbers(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 0"):
        program.set_up(**{name: -1})


def test_zeros_leave_everything_as_it_is(capsys):
    program.set_up()
    assert "Devices: /device:CPU:0, /device:CPU:1" in capsys.readouterr().out


def test_strategies():
    assert program.make_strategy("none").num_replicas_in_sync == 1
    mirrored = program.make_strategy("mirrored")
    assert isinstance(mirrored, tf.distribute.MirroredStrategy)
    assert mirrored.num_replicas_in_sync == len(
        tf.config.list_logical_devices("CPU")
    )


def test_dtype_policy_lasts_as_long_as_its_block():
    with program.dtype_policy("mixed_bfloat16"):
        layer = keras.layers.Dense(1)
    assert layer.compute_dtype == "bfloat16"
    with pytest.raises(KeyError):
        with program.dtype_policy("mixed_bfloat16"):
            raise KeyError
    assert keras.config.dtype_policy().name == "float32"
