import csv
import io
import types

import pytest

from trainers.run.callbacks import EarlyStopping
from trainers.run.callbacks import HistoryCsv
from trainers.run.callbacks import Progress


def test_table_follows_the_checkpoint(tmp_path):
    path = tmp_path / "history.csv"
    checkpoint = types.SimpleNamespace(history=[])
    callback = HistoryCsv(path, checkpoint)
    callback.on_train_begin()
    assert not path.exists()
    for epoch in (1, 2):
        checkpoint.history.append({"epoch": epoch, "loss": 0.5 / epoch})
        callback.on_epoch_end(epoch - 1)
    # Resumed from a checkpoint that lacks the last epoch.
    del checkpoint.history[1]
    HistoryCsv(path, checkpoint).on_train_begin()
    with open(path, newline="") as file:
        assert list(csv.DictReader(file)) == [{"epoch": "1", "loss": "0.5"}]
    assert [p.name for p in tmp_path.iterdir()] == ["history.csv"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def progress(file):
    callback = Progress(steps=4, file=file)
    callback.set_params({"epochs": 20})
    callback.on_epoch_begin(2)
    callback.on_train_batch_end(1, {"loss": 0.5})
    logs = {"loss": 0.25, "val_accuracy": 0.99, "a_open": 3, "b_open": 12}
    callback.on_epoch_end(2, logs)
    return file.getvalue()


def test_one_line_for_each_epoch():
    text = progress(io.StringIO())
    assert text.startswith(
        "epoch  3/20  loss 0.2500  test error  1.00 %  3-12  "
    )
    assert text.count("\n") == 1 and text.endswith(" s\n")


def test_bar_on_a_terminal():
    bar, line = progress(Terminal()).removeprefix("\r").split("\r")
    assert "━" * 12 + "╌" * 12 + "  50%  loss 0.5000" in bar
    assert line.startswith("epoch  3/20  loss 0.2500")


def stopping(values, patience):
    checkpoint = types.SimpleNamespace(
        history=[{"val_accuracy": value} for value in values]
    )
    return EarlyStopping(patience, checkpoint)


@pytest.mark.parametrize(
    "values, patience, is_over",
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, False),
        ([0.6, 0.5], 1, True),
        ([0.6, 0.5], 2, False),
        # As good as the best is not better.
        ([0.6, 0.6, 0.6], 2, True),
        ([0.6, 0.5, 0.5, 0.7], 2, False),
    ],
)
def test_is_over(values, patience, is_over):
    callback = stopping(values, patience)
    assert callback.is_over == is_over
    callback.set_model(types.SimpleNamespace(stop_training=False))
    callback.on_epoch_end(0)
    assert callback.model.stop_training == is_over
