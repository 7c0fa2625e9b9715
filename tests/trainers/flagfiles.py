"""The flagfiles of the papers' experiments, as the programs read them."""

import pathlib
import re

from absl import flags

from trainers import config as config_lib
from trainers import train

EXPERIMENTS = pathlib.Path(train.__file__).parent / "experiments"


def read(name, *overrides):
    """The `Config` of a flagfile, and of flags that come after it."""
    values = flags.FlagValues()
    train.define_flags(values)
    path = EXPERIMENTS / f"{name}.flags"
    values(["train", f"--flagfile={path}", *overrides])
    return config_lib.from_flags(values)


def head(name):
    """The comment that a flagfile begins with."""
    return (EXPERIMENTS / f"{name}.flags").read_text().split("--model")[0]


def commands(name):
    """What its head adds to the flagfile: a list of flags per command."""
    text = head(name).replace("#", "").replace("\\\n", " ")
    found = re.findall(r"^ +python -m trainers.train (.*)$", text, re.M)
    return [command.split()[1:-1] for command in found]
