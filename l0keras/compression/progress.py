import sys
import time

import keras

# The shortest time between two updates of a line in seconds.
_INTERVAL = 0.2
_BAR = 20


class Progress(keras.callbacks.Callback):
    """One bar for a training in stages, with the time left for all of them.

    On a terminal it is one line, written over and over again; elsewhere a
    line for each epoch.

    Args:
        epochs: the number of epochs of all stages.
        steps: the number of steps in an epoch.
        verbose: as in `fit`: 0, 1 or 2; `"auto"` is 1.
    """

    def __init__(self, epochs, steps, verbose):
        super().__init__()
        self._epochs, self._steps = epochs, steps
        self._verbose = 1 if verbose == "auto" else int(verbose)
        self._overwrites = self._verbose == 1 and sys.stdout.isatty()
        self._stage, self._size, self._now = "", None, ""
        self._written, self._width = 0.0, 0
        self._began = None
        self._epoch, self._done = 0, 0

    def say(self, text):
        """Writes what is being done now, between two trainings."""
        if self._verbose:
            self._write(text, ends=not self._overwrites)

    def stage(self, name, size):
        """Names the next training.

        Args:
            name: a string.
            size: a function of the trained model that says how large it is,
                in a few words.
        """
        self._stage, self._size = name, size
        self._began = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._began is None:
            self._began, self._first = time.perf_counter(), epoch
        self._epoch, self._done = epoch, 0
        self._look()

    def on_train_batch_end(self, batch, logs=None):
        self._done = batch + 1
        late = time.perf_counter() - self._written > _INTERVAL
        if self._overwrites and late:
            self._line(logs, ends=False)

    def on_epoch_end(self, epoch, logs=None):
        self._done = self._steps
        self._look()
        if self._verbose:
            self._line(logs, ends=not self._overwrites)

    def on_train_end(self, logs=None):
        if self._overwrites:
            sys.stdout.write("\n")

    def end(self):
        """Ends the line."""
        if self._overwrites:
            self._write("", ends=False)

    def _look(self):
        if self._verbose:
            self._now = self._size(self.model)

    def _line(self, logs, ends):
        done = self._epoch + self._done / self._steps
        spent = time.perf_counter() - self._began
        # The first step of a stage compiles it, so early guesses are high.
        left = spent / max(done - self._first, 1e-9) * (self._epochs - done)
        filled = int(_BAR * done / self._epochs)
        parts = [
            f"{self._stage}, epoch {self._epoch + 1} of {self._epochs}",
            f"[{'=' * filled}{'.' * (_BAR - filled)}] {_clock(left)} left",
            self._now,
            *(f"{k} {float(v):.4g}" for k, v in (logs or {}).items()),
        ]
        self._write(" - ".join(part for part in parts if part), ends)

    def _write(self, text, ends):
        self._written = time.perf_counter()
        if self._overwrites:
            # What is left of a longer line goes away.
            text = "\r" + text + " " * (self._width - len(text))
            self._width = len(text.strip()) + 1
        sys.stdout.write(text + ("\n" if ends else ""))
        sys.stdout.flush()


def _clock(seconds):
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02}:{seconds:02}"
        if hours
        else f"{minutes}:{seconds:02}"
    )
