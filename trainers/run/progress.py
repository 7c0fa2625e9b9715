"""What a training run shows while it goes on."""

import sys
import time

import keras

BAR = 24


class Progress(keras.callbacks.Callback):
    """One line for each epoch, and a bar within the epoch on a terminal.

    Args:
        steps: the number of steps in an epoch.
        split: what the validation metrics are those of.
        file: where to write, `sys.stdout` by default.
    """

    def __init__(self, steps, split="test", file=None):
        super().__init__()
        self._steps = steps
        self._split = split
        self._file = file or sys.stdout
        self._terminal = self._file.isatty()
        self._drawn = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if not self._terminal or now - self._drawn < 0.1:
            return
        self._drawn = now
        done = (batch + 1) / self._steps
        filled = int(BAR * done)
        bar = "━" * filled + "╌" * (BAR - filled)
        loss = (logs or {}).get("loss", float("nan"))
        self._write(f"\r{self._head()}  {bar} {done:4.0%}  loss {loss:.4f}")

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        seconds = time.perf_counter() - self._began
        parts = [self._head(), f"loss {logs['loss']:.4f}"]
        if "val_accuracy" in logs:
            error = 100 * (1 - logs["val_accuracy"])
            parts.append(f"{self._split} error {error:5.2f} %")
        units = [
            str(value) for name, value in logs.items() if name.endswith("_open")
        ]
        if units:
            parts.append("-".join(units))
        parts.append(f"{seconds:.1f} s")
        start, end = ("\r", "\033[K\n") if self._terminal else ("", "\n")
        self._write(start + "  ".join(parts) + end)

    def _head(self):
        epochs = self.params["epochs"]
        return f"epoch {self._epoch + 1:{len(str(epochs))}}/{epochs}"

    def _write(self, text):
        self._file.write(text)
        self._file.flush()
