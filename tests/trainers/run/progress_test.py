import io

from trainers.run.callbacks import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(file):
    progress = Progress(steps=4, file=file)
    progress.set_params({"epochs": 20})
    progress.on_epoch_begin(2)
    progress.on_train_batch_end(1, {"loss": 0.5})
    logs = {"loss": 0.25, "val_accuracy": 0.99, "a_open": 3, "b_open": 12}
    progress.on_epoch_end(2, logs)
    return file.getvalue()


def test_one_line_for_each_epoch():
    text = run(io.StringIO())
    assert text.startswith(
        "epoch  3/20  loss 0.2500  test error  1.00 %  3-12  "
    )
    assert text.count("\n") == 1 and text.endswith(" s\n")


def test_bar_on_a_terminal():
    bar, line = run(Terminal()).removeprefix("\r").split("\r")
    assert "━" * 12 + "╌" * 12 + "  50%  loss 0.5000" in bar
    assert line.startswith("epoch  3/20  loss 0.2500")
