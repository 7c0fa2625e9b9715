import sys

import keras
import pytest
import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

from l0keras.callbacks import NonFiniteError
from trainers import demo
from trainers import evaluate
from trainers import export
from trainers import train
from trainers.run import program


@pytest.fixture(autouse=True)
def as_before():
    """absl's flags and verbosity belong to the process."""
    app.define_help_flags()
    flags.FLAGS(["program"])
    before, level = set(flags.FLAGS), logging.get_verbosity()
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    logging.set_verbosity(level)


@pytest.mark.parametrize("one", [train, evaluate, export, demo])
def test_help_lists_every_flag(one, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [one.__file__, "--help"])
    with pytest.raises(SystemExit):
        program.run(one.main, one.define_flags)
    values = flags.FlagValues()
    one.define_flags(values)
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0] for line in lines if line.startswith("  --")}
    assert {
        f"--[no]{name}:" if values[name].boolean else f"--{name}:"
        for name in values
    } <= listed


def test_arguments_are_handed_over_or_refused(capsys):
    @program.main(arguments=True)
    def with_arguments(paths):
        print(paths)

    with_arguments(["program", "a", "b"])
    assert capsys.readouterr().out == "['a', 'b']\n"
    with pytest.raises(SystemExit, match="^error: .*must be flags.*: mnist$"):
        program.main(pytest.fail)(["program", "mnist"])
    assert logging.get_verbosity() == logging.WARNING


@pytest.mark.parametrize(
    "error, text",
    [
        (ValueError("Argument `x`"), "^error: Argument `x`$"),
        (RuntimeError("LiteRT"), "^error: LiteRT$"),
        (
            NonFiniteError("The loss is nan."),
            "^error: The loss is nan. The last good epoch, if there was one",
        ),
    ],
)
def test_errors_end_a_program_with_one_line(error, text):
    @program.main(errors=(RuntimeError,))
    def work():
        raise error

    with pytest.raises(SystemExit, match=text):
        work(["program"])


def test_mistakes_of_a_program_keep_their_traceback():
    @program.main
    def work():
        raise KeyError("x")

    with pytest.raises(KeyError):
        work(["program"])


@pytest.mark.parametrize("resumes", [False, True])
def test_interrupted(resumes, capsys):
    @program.main(resumes=resumes)
    def work():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        work(["program"])
    assert stopped.value.code == 130
    assert ("The same command goes on" in capsys.readouterr().out) is resumes


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
