"""The code of README and guides runs; commands and links name what exists."""

import importlib
import importlib.util
import os
import pathlib
import re
import shlex

import pytest
from absl import flags

from l0keras.cli.flags import make_parser

ROOT = str(pathlib.Path(__file__).parents[2])
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A block of Python may say after its language why it is not run.
SKIPPED = re.compile(r"no-run:\s*\S+")


PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *pathlib.Path(ROOT).glob("*.md"),
        *pathlib.Path(ROOT, "docs").rglob("*.md"),
    )
)
# Those that have a test of their own.
RUN_ELSEWHERE = ("docs/guides/channels.md", "docs/guides/deploy.md")


def read(name):
    with open(os.path.join(ROOT, name)) as file:
        return file.read()


def blocks(text, *languages):
    """The fenced blocks of some languages, as (what follows it, code)."""
    found = []
    for info, code in FENCE.findall(text):
        language, _, rest = info.strip().partition(" ")
        if language in languages:
            found.append((rest.strip(), code))
    return found


def commands(text):
    """The shell commands of a text, each as a list of words."""
    found = []
    for _, code in blocks(text, "sh", "bash", "shell", "console"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                found.append(words)
    return found


def make_targets():
    return set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))


def check_program(module, arguments):
    """A module that can be run, and knows the flags that it is given."""
    assert importlib.util.find_spec(module), f"no module {module}"
    if not module.startswith("trainers."):
        return
    program = importlib.import_module(module)
    assert callable(program.main)
    values = flags.FlagValues()
    program.define_flags(values)
    for argument in arguments:
        if not argument.startswith("--"):
            continue
        name, _, value = argument.removeprefix("--").partition("=")
        if name == "flagfile":
            assert os.path.isfile(os.path.join(ROOT, value)), value
        elif name != "help":
            assert name in values, f"{module} has no flag --{name}"


def check_command(words):
    """Fails unless a command names what there is."""
    # Variables before a command say which environment it runs in.
    while "=" in words[0]:
        words = words[1:]
    name, *arguments = words
    if name == "make":
        targets = [word for word in arguments if "=" not in word]
        assert set(targets) <= make_targets(), targets
    elif name in ("python", "python3"):
        assert arguments[0] == "-m", words
        check_program(arguments[1], arguments[2:])
    elif name == "l0keras":
        # It ends the process where it does not know a flag.
        try:
            make_parser().parse_args(arguments)
        except SystemExit:
            raise AssertionError(f"l0keras takes no {arguments}") from None
    else:
        assert name in ("cd", "git", "pip", "tensorboard"), words


WITH_CODE = [
    name
    for name in PAGES
    if name not in RUN_ELSEWHERE and blocks(read(name), "python")
]


@pytest.mark.parametrize("name", WITH_CODE)
def test_python_code_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for info, code in blocks(read(name), "python"):
        if info:
            assert SKIPPED.fullmatch(info), f"{info!r} is no reason"
            compile(code, name, "exec")
            continue
        exec(compile(code, name, "exec"), namespace)


def test_pages_have_code():
    assert "README.md" in WITH_CODE and len(WITH_CODE) > 6


@pytest.mark.parametrize("name", PAGES)
def test_commands_name_what_exists(name):
    found = commands(read(name))
    if name == "README.md":
        assert ["make", "demo"] in found
        assert ["make", "test"] in found
    for words in found:
        check_command(words)
    # In the text, too, perhaps broken over lines.
    for text in re.findall(r"`python\s+-m\s([^`]+)`", read(name)):
        if "NAME" not in text:
            module, *arguments = text.split()
            check_program(module, arguments)


@pytest.mark.parametrize("name", PAGES)
def test_links_name_what_exists(name):
    text = FENCE.sub("", read(name))
    folder = os.path.join(ROOT, os.path.dirname(name))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        # The pictures are put there when the pages are built.
        if "://" in target or target.startswith("#") or "pictures/" in target:
            continue
        assert os.path.exists(os.path.join(folder, target.split("#")[0])), (
            target
        )


def test_flagfiles_hold_known_flags():
    folder = os.path.join(ROOT, "trainers", "experiments")
    names = sorted(os.listdir(folder))
    assert len(names) >= 4
    for name in names:
        lines = read(os.path.join("trainers", "experiments", name))
        given = [line for line in lines.splitlines() if line.startswith("--")]
        assert given
        check_program("trainers.train", given)


@pytest.mark.parametrize(
    "command",
    [
        "make dmeo",
        "python -m trainers.trian",
        "python -m trainers.train --l0_lamda=1",
        "python -m trainers.train --flagfile=trainers/experiments/none.flags",
        "python train.py",
        "curl somewhere",
        "l0keras shrink model.keras",
        "l0keras strip model.keras --outputs=small.keras",
    ],
)
def test_wrong_commands_are_found(command):
    with pytest.raises((AssertionError, ModuleNotFoundError)):
        check_command(shlex.split(command))
