"""The training program as a process of its own."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Enough epochs to be killed among them.
RUN = (
    "--model=mlp",
    "--dataset=digits",
    "--epochs=30",
    "--batch_size=300",
    "--ema_momentum=0.9",
    "--num_threads=1",
)


def start(*arguments, program="train"):
    return subprocess.Popen(
        [sys.executable, "-m", f"trainers.{program}", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        # A shell lets what it runs in the background ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(*arguments, **kwargs):
    process = start(*arguments, **kwargs)
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


def test_killed_run_goes_on_and_ends_where_the_straight_one_does(tmp_path):
    code, out, err = run(*RUN, f"--workdir={tmp_path / 'straight'}")
    assert code == 0, err
    lines = out.splitlines()
    # Those of the same network without gates are the other half.
    assert sum(line.startswith("epoch ") for line in lines) == 60
    assert lines[-7].split()[2] == "%"
    assert [line.split()[0] for line in lines[-7:-3]] == [
        "dense",
        "gated",
        "stripped",
        "LiteRT",
    ]

    process = start(*RUN, "--nodense", f"--workdir={tmp_path / 'killed'}")
    for line in process.stdout:
        if line.startswith("epoch 10/"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "report.json").exists()

    code, out, err = run(*RUN, "--nodense", f"--workdir={tmp_path / 'killed'}")
    assert code == 0, err
    assert "Going on after epoch" in out
    assert not (tmp_path / "killed" / "dense").exists()
    with (
        np.load(tmp_path / "straight" / "checkpoint.npz") as one,
        np.load(tmp_path / "killed" / "checkpoint.npz") as other,
    ):
        assert one.files == other.files and len(one.files) > 30
        for name in set(one.files) - {"meta"}:
            np.testing.assert_array_equal(one[name], other[name])
    rows = (tmp_path / "killed" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [
        str(epoch) for epoch in range(1, 31)
    ]


def test_interrupted_run_says_how_to_go_on(tmp_path):
    # So many epochs that it cannot be done before the signal comes.
    process = start(*RUN, "--epochs=999", f"--workdir={tmp_path}")
    for line in process.stdout:
        if line.startswith("epoch   2/"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=500)
    assert process.returncode == 130
    assert "The same command goes on" in out
    assert "Traceback" not in err


def test_diverging_run_ends_with_one_error(tmp_path):
    code, out, err = run(
        *RUN,
        "--optimizer=sgd",
        "--learning_rate=1e30",
        f"--workdir={tmp_path}",
    )
    assert code == 1
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "loss is" in errors[0]
    assert "Traceback" not in err
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize(
    "program, arguments, message",
    [
        (
            "train",
            ["--model=vgg"],
            "`model` must be one of lenet5, lenet5_pytorch, mlp",
        ),
        ("train", ["digits"], "must be flags, --name=value. Received: digits"),
        ("export", ["--input=nothing"], "`input` must be a .keras file"),
    ],
)
def test_bad_input_gets_one_error(program, arguments, message):
    code, out, err = run(*arguments, program=program)
    assert code == 1
    assert "error: " in err and message in err
    assert "Traceback" not in err
