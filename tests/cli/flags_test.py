import re

import pytest

from l0keras.cli import checks
from l0keras.cli import flags
from l0keras.export import QUANTIZATIONS
from l0keras.targets.target import OF


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0.25", 0.25),
        ("25%", 0.25),
        ("100%", 1.0),
        ("1", 1.0),
        ("50000", 50_000.0),
        ("50k", 50_000.0),
        ("1.5M", 1_500_000.0),
        ("0.1%", 0.001),
    ],
)
def test_sizes(text, expected):
    assert flags.size(text) == expected


@pytest.mark.parametrize(
    "text", ["0", "-1", "101%", "0%", "x", "", "%", "k", "nan", "inf", "1/0"]
)
def test_wrong_sizes(text, capsys):
    with pytest.raises(SystemExit):
        flags.parse(["compress", "m.keras", f"--target_macs={text}"])
    error = capsys.readouterr().err
    assert "--target_macs: must be a share in (0, 1]" in error
    assert f"Received: '{text}'" in error


@pytest.mark.parametrize(
    "text, expected",
    [("1/255", 1 / 255), ("2", 2.0), ("-1e-3", -1e-3)],
)
def test_numbers(text, expected):
    values = flags.parse(["export", "m.keras", f"--rescale={text}"])
    assert values.rescale == expected


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--rescale=1/0", "must be a number"),
        ("--epochs=1", "must be an integer of at least 2"),
        ("--batch_size=1.5", "must be an integer of at least 1"),
        ("--learning_rate=0", "must be above 0"),
        ("--validation_split=1", "must be between 0 and 1"),
        ("--quantization=int4", "invalid choice: 'int4'"),
        ("--target_mac=0.5", "unrecognized arguments: --target_mac=0.5"),
    ],
)
def test_wrong_values(flag, message, capsys):
    with pytest.raises(SystemExit) as stop:
        flags.parse(["compress", "m.keras", flag])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_paths_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    names = ("data", "validation_data", "data_dir", "report")
    words = [f"--{name}=~/x" for name in names]
    values = flags.parse(
        ["export", "~/x", "--output=~/x", "--custom_objects=~/x", *words]
    )
    assert values.output == values.custom_objects == ["/home/me/x"]
    for name in ("model", *names):
        assert getattr(values, name) == "/home/me/x"
    assert flags.parse(["report", "a", "~/x"]).other == "/home/me/x"


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit):
        flags.parse([])
    assert "compress, strip, report, export" in capsys.readouterr().err


def test_flags_know_what_the_library_knows():
    assert tuple(flags.TARGETS) == OF
    modes = [mode or "float32" for mode in QUANTIZATIONS]
    assert list(flags.QUANTIZATIONS) == modes
    assert checks.NEED_DATA == tuple(
        mode for mode, how in QUANTIZATIONS.items() if how.needs_data
    )


def test_help_of_the_program_is_that_of_all_commands():
    parser = flags.make_parser()
    text = parser.format_help()
    for name, command in parser.commands.choices.items():
        assert command.format_help() in text
        for line in text.splitlines():
            assert len(line) <= 80
        assert f"usage: l0keras {name} " in text
        names = re.findall(r"^  (--\w+)", command.format_help(), re.M)
        options = [
            option
            for action in command._actions
            for option in action.option_strings
            if option not in ("-h", "--help")
        ]
        assert sorted(names) == sorted(options)
