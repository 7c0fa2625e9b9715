import configparser
import importlib
import os
import pathlib
import subprocess
import sys

import pytest

from l0keras.cli.at_once import is_command
from l0keras.cli.flags import make_parser
from l0keras.cli.main import main

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    "argv, original, expected",
    [
        (["-m", "--help"], ["python", "-m", "l0keras", "--help"], True),
        (["-m"], ["python", "-W", "ignore", "-m", "l0keras"], True),
        (["-m", "x"], ["python", "-m", "trainers.train", "x"], False),
        (["-m", "l0keras"], ["python", "-m", "pytest", "l0keras"], False),
        (["/usr/bin/l0keras", "strip"], ["python", "/usr/bin/l0keras"], True),
        (["my_l0keras.py"], ["python", "my_l0keras.py"], False),
        (["-c"], ["python", "-c", "import l0keras"], False),
        ([""], ["python"], False),
        ([], ["python"], False),
    ],
)
def test_other_processes_are_left_alone(argv, original, expected):
    assert is_command(argv, original) == expected


# Keras would be imported without this, and so would TensorFlow.
REFUSED = 'raise ImportError("help needs no Keras")'


def run(tmp_path, *words):
    """Runs the command in another folder, where Keras cannot be imported."""
    (tmp_path / "keras.py").write_text(REFUSED)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "l0keras", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_help_lists_all_flags_from_any_folder(tmp_path):
    result = run(tmp_path, "--help")
    assert result.returncode == 0, result.stderr
    parser = make_parser()
    for command in parser.commands.choices.values():
        for action in command._actions:
            for option in action.option_strings:
                assert f" {option}" in result.stdout
    result = run(tmp_path, "compress", "--help")
    assert result.returncode == 0, result.stderr
    assert "--target_latency=SIZE" in result.stdout


def test_wrong_flags_need_no_keras_either(tmp_path):
    result = run(tmp_path, "strip", "none.keras", "--output=small.keras")
    assert result.returncode == 1
    assert result.stderr == (
        "error: Argument `MODEL` must be a file that exists. "
        "Received: MODEL=none.keras\n"
    )
    result = run(tmp_path, "strip", "none.keras", "--outputs=small.keras")
    assert result.returncode == 2
    assert "unrecognized arguments: --outputs=small.keras" in result.stderr
    # Without any mistake work begins.
    (tmp_path / "some.keras").write_text("")
    result = run(tmp_path, "report", "some.keras")
    assert "help needs no Keras" in result.stderr


def test_the_installed_command_is_this_one():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    [(name, place)] = [line.split(" = ") for line in lines if line]
    module, _, function = place.partition(":")
    assert name == "l0keras"
    assert getattr(importlib.import_module(module), function) is main
