import os
import pickle
import subprocess
import sys
import tempfile

import keras
import pytest
from keras import layers

import l0keras
from l0keras.export.litert import jobs
from l0keras.export.litert import worker
from l0keras.export.litert.source import KerasSource
from l0keras.export.litert.worker import WORKER
from l0keras.export.litert.worker import Worker
from l0keras.export.litert.worker import WorkerDied
from l0keras.export.litert.worker import WorkFailed

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


# Answers as `serve` does, and imports nothing that takes seconds.
MINIMAL = """
import os, pickle, sys
while True:
    kind, content = pickle.load(sys.stdin.buffer)
    if kind == "run":
        answer = True, content[0](*content[1])
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.flush()
"""


@pytest.fixture
def light(monkeypatch):
    """A worker that starts at once."""
    monkeypatch.setattr(worker, "_SERVE", MINIMAL)
    light = Worker()
    yield light
    light.stop()


def test_work_is_done_elsewhere():
    pid = WORKER.run(os.getpid)
    assert pid != os.getpid()
    # It stays for the next job.
    assert WORKER.run(os.getpid) == pid
    with pytest.raises(WorkFailed, match="No such file"):
        WORKER.run(os.stat, "/no/such/file")
    assert WORKER.run(os.getpid) == pid


def test_death_is_survived(light):
    with pytest.raises(WorkerDied, match="SIGABRT"):
        light.run(os.abort)
    assert light.run(os.getenv, "CUDA_VISIBLE_DEVICES") == "-1"
    # As if nobody had needed it for long.
    assert light.run(os.path.basename, "a/b") == "b"
    with pytest.raises(WorkerDied):
        light.run(os._exit, 3)
    light.start()
    light._send("run", (os._exit, (0,)))
    light._process.wait()
    assert light.run(os.path.basename, "a/b") == "b"


class Fatal(layers.Layer):
    """Something that ends the process of the converter."""

    def call(self, x):
        return 2.0 * x


def test_the_layer_that_ends_a_conversion_is_named(
    tmp_path, monkeypatch, light
):
    inputs = keras.Input((3,))
    x = inputs
    for index in range(5):
        x = layers.Dense(2, name=f"dense{index}")(x)
        if index == 2:
            x = Fatal(name="bomb")(x)
    model = keras.Model(inputs, x)
    tried = []

    def convert(self, *args):
        tried.append(self.layers)
        light.run(os.abort if "bomb" in self.layers else os.getpid)

    monkeypatch.setattr(KerasSource, "convert", convert)
    path = tmp_path / "model.tflite"
    with pytest.raises(RuntimeError, match=r"layer 'bomb' \(Fatal\).*SIGABRT"):
        l0keras.export_tflite(model, path)
    assert len(tried) <= 5
    assert not os.listdir(tmp_path)


def test_files_that_end_their_process_are_not_written(tmp_path, monkeypatch):
    run = Worker.run

    def deadly(self, function, *args):
        if function is jobs.run:
            raise WorkerDied("SIGSEGV")
        return run(self, function, *args)

    monkeypatch.setattr(Worker, "run", deadly)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(RuntimeError, match="operations FULLY_CONNECTED: SIG"):
        l0keras.export_tflite(model, tmp_path / "model.tflite")
    assert not os.listdir(tmp_path)


def test_nothing_is_left_behind_after_a_kill(tmp_path):
    # What the process does when the one that started it is gone: without
    # imports, which take most of the time.
    folder = tempfile.mkdtemp(dir=tmp_path)
    code = (
        "import sys; sys.modules['l0keras.export'] = None;"
        f"exec(open({worker.__file__!r}).read()); serve()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    pickle.dump(("guard", folder), process.stdin)
    pickle.dump(("run", (os.getpid, ())), process.stdin)
    process.stdin.flush()
    assert pickle.load(process.stdout) == (True, process.pid)
    assert os.path.isdir(folder)
    process.stdin.close()
    process.wait(timeout=30)
    process.stdout.close()
    assert not os.path.exists(folder)


def test_folders_are_guarded_until_they_are_gone(tmp_path, light):
    with light.folder("draft-", tmp_path) as folder:
        assert os.path.isdir(folder)
        with pytest.raises(WorkerDied):
            light.run(os.abort)
        assert light._guarded == [folder]
    assert not os.path.exists(folder) and light._guarded == []


def test_files_of_the_caller_are_no_modules_of_python(tmp_path, monkeypatch):
    """As in a notebook, whose folder may be in front of all others."""
    (tmp_path / "queue.py").write_text("raise SystemExit('not this one')")
    monkeypatch.syspath_prepend(tmp_path)
    worker = Worker()
    try:
        assert worker.run(os.getpid) != os.getpid()
    finally:
        worker.stop()
