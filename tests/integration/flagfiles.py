"""The flagfiles of the papers' experiments, as the programs read them."""

import json
import pathlib
import re
import subprocess
import sys

from absl import flags

from trainers import train
from trainers.run import config as config_lib

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


def run_on_two_replicas(name, flags, data_dir, workdir):
    """Trains as a program, because replicas share what a process counts.

    Args:
        name: of a flagfile.
        flags: what to add to it.
        data_dir: where the data are.
        workdir: a folder.

    Returns:
        What the program prints, and its report.
    """
    result = subprocess.run(
        [
            sys.executable,
            *("-m", "trainers.train"),
            f"--flagfile={EXPERIMENTS / name}.flags",
            *flags,
            "--finetune_epochs=1",
            "--nodense",
            "--strategy=mirrored",
            "--num_logical_cpus=2",
            "--precision=mixed_bfloat16",
            f"--data_dir={data_dir}",
            f"--workdir={workdir}",
        ],
        cwd=EXPERIMENTS.parents[1],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "/device:CPU:1" in result.stdout
    return result.stdout, json.loads((workdir / "report.json").read_text())
