import io
import re
import sys

import keras
import numpy as np

from l0keras.compression.progress import Progress
from l0keras.compression.progress import _clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(monkeypatch, file, verbose=1):
    """Two epochs in two stages; what was written."""
    monkeypatch.setattr(sys, "stdout", file)
    progress = Progress(2, 4, verbose)
    sizes = iter(["all of it", "90 %", "50 %", "half"])
    progress.say("Looking")
    for epoch, name in enumerate(("First", "Last")):
        progress.stage(name, lambda model: next(sizes))
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=True)
        model.fit(
            *(np.ones((8, 2)), np.ones(8)),
            batch_size=2,
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            callbacks=[progress],
        )
    progress.end()
    return file.getvalue()


def test_a_line_for_each_epoch_where_nothing_can_be_overwritten(monkeypatch):
    lines = run(monkeypatch, io.StringIO()).splitlines()
    expected = [
        "Looking",
        r"First, epoch 1 of 2 - \[={10}\.{10}\] 0:0\d left - 90 % - loss .+",
        r"Last, epoch 2 of 2 - \[={20}\] 0:00 left - half - loss .+",
    ]
    assert len(lines) == 3
    for line, pattern in zip(lines, expected):
        assert re.fullmatch(pattern, line), line


def test_one_line_on_a_terminal(monkeypatch):
    written = run(monkeypatch, Terminal())
    assert written.count("\n") == 2
    shown = written.replace("\n", "\r").split("\r")
    assert any("First, epoch 1 of 2" in part for part in shown)
    # Longer texts are covered by those that follow.
    assert len(shown[2]) >= len(shown[1].rstrip())
    assert not run(monkeypatch, Terminal(), verbose=0)


def test_clocks():
    assert _clock(0.2) == "0:00"
    assert _clock(61.6) == "1:02"
    assert _clock(3 * 3600 + 125) == "3:02:05"
