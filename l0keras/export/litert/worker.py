"""A process for work that may end the process that does it.

The converter of TensorFlow and the kernels of LiteRT stop the whole process
where something is wrong that they did not expect. They do it in this one.
"""

import atexit
import contextlib
import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

# A process that nobody needs for so many seconds gives its memory back.
_IDLE_SECONDS = 120
# What this process can import comes last, so that no file of the caller's is
# taken for a module of Python.
_SERVE = """
import sys
sys.path += [path for path in sys.argv[1:] if path not in sys.path]
from l0keras.export.litert.worker import serve
serve()
"""


class WorkerDied(RuntimeError):
    """The process of the work is gone. The text says how it ended."""


class WorkFailed(RuntimeError):
    """The work raised an error, whose text this one has."""


class Worker:
    """One process, started when it is needed, for one job after the other.

    Starting it takes as long as importing TensorFlow, so it stays for the next
    job. It goes when this process ends, however it ends, and removes the
    folders that it was told to guard.
    """

    def __init__(self):
        self._lock = threading.RLock()
        self._process = None
        self._errors = None
        self._owner = None
        self._guarded = []

    def start(self):
        """Starts the process and does not wait for it."""
        with self._lock:
            if self._owner == os.getpid() and self._process.poll() is None:
                return
            self.stop()
            self._errors = tempfile.TemporaryFile()
            paths = map(os.path.abspath, sys.path)
            self._process = subprocess.Popen(
                # Without the folder of a script in the path of modules.
                [sys.executable, "-P", "-c", _SERVE, *paths],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=_environment(),
                # Signals for this process are none for the other.
                start_new_session=True,
            )
            self._owner = os.getpid()
            for folder in self._guarded:
                self._send("guard", folder)

    @contextlib.contextmanager
    def folder(self, prefix, parent):
        """A new folder, for a block, that is gone even if this process is.

        Args:
            prefix: how its name begins.
            parent: the path of the folder that it lies in.
        """
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as path:
            path = os.path.abspath(path)
            with self._lock:
                self.start()
                self._guarded.append(path)
                self._send("guard", path)
            try:
                yield path
            finally:
                self._guarded.remove(path)

    def run(self, function, *args):
        """Calls a function in the process.

        Args:
            function: a function of a module that can be imported.
            *args: its arguments, which are pickled.

        Returns:
            What it returns.

        Raises:
            WorkFailed: the function raised an error.
            WorkerDied: the process ended meanwhile.
        """
        with self._lock:
            answer = self._answer(function, args)
            if answer is None:
                # It had just gone because nobody needed it.
                answer = self._answer(function, args)
            done, value = answer
            if done:
                return value
            error = WorkFailed(value)
            error.add_note(self._said())
            raise error

    def _answer(self, function, args):
        try:
            self.start()
            self._errors.seek(0)
            self._errors.truncate()
            self._send("run", (function, args))
            return pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self._process.wait()
            died = WorkerDied(self._last_words(code))
            self.stop()
            if code:
                raise died from None
            return None
        except BaseException:
            # An answer that comes later would be that of the next job.
            self.stop()
            raise

    def stop(self):
        """Ends the process."""
        with self._lock:
            process, self._process = self._process, None
            if process is None or self._owner != os.getpid():
                return
            self._owner = None
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, self._errors):
                try:
                    stream.close()
                except OSError:
                    # It still had something for a process that is gone.
                    pass

    def _send(self, kind, content):
        pickle.dump((kind, content), self._process.stdin)
        self._process.stdin.flush()

    def _said(self):
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def _last_words(self, code):
        name = f"exit code {code}"
        if code < 0:
            name = signal.Signals(-code).name
        lines = [line for line in self._said().splitlines() if line.strip()]
        return f"{name}, {lines[-1].strip()}" if lines else name


WORKER = Worker()
atexit.register(WORKER.stop)


def _environment():
    return {
        **os.environ,
        # Two processes do not share the memory of a GPU, and this one has no
        # use for it.
        "CUDA_VISIBLE_DEVICES": "-1",
    }


def serve():
    """Does the jobs that come through stdin, until there is nobody left."""
    incoming = sys.stdin.buffer
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs = queue.SimpleQueue()
    threading.Thread(target=_read, args=(incoming, jobs), daemon=True).start()
    while True:
        try:
            function, args = jobs.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            os._exit(0)
        try:
            answer = True, function(*args)
        except Exception as error:
            answer = False, str(error) or type(error).__name__
        pickle.dump(answer, answers)
        answers.flush()


def _read(incoming, jobs):
    folders = []
    while True:
        try:
            kind, content = pickle.load(incoming)
        except Exception:
            # The other process is gone, in whatever way.
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)
        if kind == "guard":
            folders.append(content)
        else:
            jobs.put(content)
