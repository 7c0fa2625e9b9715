"""Models in several files, and tables of what came out."""

import io
import json
import os
from concurrent.futures.process import BrokenProcessPool

import keras
import numpy as np
import pytest
from absl import flags
from keras import layers

from trainers.studies import exports
from trainers.studies import proof
from trainers.studies import road
from trainers.studies.corpus.entry import Entry
from trainers.studies.worker_process import WorkerProcess

FILE = {
    "bytes": 12_345,
    "gzip_bytes": 6_789,
    "latency_us": 10.4,
    "difference": 0.00123,
    "agreement": 1.0,
}
ROW = {
    "name": "small | one",
    "table": "corpus",
    "seed": 0,
    "failed": None,
    "params": 1234,
    "files": {
        "float32": FILE,
        "dynamic": {"refused": "No.\n| really"},
        "int8": {**FILE, "float_ops": ["SIN", "COS"]},
    },
}


def small():
    inputs = keras.Input((4, 4, 2), name="image")
    numbers = keras.Input((3,), name="numbers")
    x = layers.Conv2D(16, 3, activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, "relu")(layers.Concatenate()([x, numbers]))
    outputs = {"sine": keras.ops.sin(x), "class": layers.Dense(3)(x)}
    return keras.Model({"numbers": numbers, "image": inputs}, outputs)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the program's `main` with flags and gives what it printed."""

    def run(*arguments):
        values = flags.FlagValues()
        exports.define_flags(values)
        flags.DEFINE_integer("verbosity", -1, "As absl.", flag_values=values)
        argv = values(["exports", *arguments])
        monkeypatch.setattr(exports, "FLAGS", values)
        exports.main(argv)
        return capsys.readouterr().out

    return run


def test_a_stripped_model_is_exported():
    entry = Entry("small", "tests", small)
    model, inputs = road.stripped(entry, 0, 40)
    assert model.count_params() < 0.6 * entry.build().count_params()
    files = exports.export(model, inputs)
    assert list(files) == ["float32", "dynamic", "int8"]
    floats, _, integers = files.values()
    assert floats["difference"] < 1e-6 < integers["difference"] < 0.1
    assert integers["float_ops"] == ["SIN"]
    assert "float_ops" not in floats
    for file in files.values():
        assert 0 < file["gzip_bytes"] < file["bytes"]
        assert file["latency_us"] > 0 and file["agreement"] > 0.5
    assert json.loads(json.dumps(files)) == files


def test_a_network_is_stripped():
    def build():
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(16, 3, activation="relu")(inputs)
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3)(x))
        return keras.Model(inputs, layers.Dense(10)(x))

    model, images = proof.stripped(build, 0, 32)
    assert images.shape == (32, 8, 8, 3)
    assert model.count_params() < 0.5 * build().count_params()


def test_what_is_refused_is_in_the_row():
    inputs = keras.Input((4, 4))
    model = keras.Model(inputs, keras.ops.fft2((inputs, inputs))[0])
    data = np.random.default_rng(0).random((32, 4, 4), "float32")
    for file in exports.export(model, data).values():
        assert "FFT2D of layer" in file["refused"]


def test_an_error_becomes_part_of_the_row(monkeypatch):
    def breaks(name, seed):
        raise KeyError("no such weight")

    monkeypatch.setattr(exports, "MODELS", {"corpus": breaks})
    row = exports.make_row("corpus", "broken", 0)
    assert row["failed"] == "KeyError: 'no such weight'"
    assert exports.cells(row) == ["broken", *["-"] * 6]


def test_a_process_that_ends_does_not_end_the_others():
    process = WorkerProcess(jobs=2)
    first = process(os.getpid)
    with pytest.raises(BrokenProcessPool):
        process(os._exit, 3)
    second = process(os.getpid)
    assert process(os.getpid) == second
    assert len({first, second, process(os.getpid), os.getpid()}) == 4
    process.close()


def test_rows_are_kept(monkeypatch, tmp_path):
    made = []

    def make(process, table, name, seed):
        made.append(name)
        failed = "killed" if name == "bad" else None
        return {**ROW, "table": table, "name": name, "failed": failed}

    monkeypatch.setattr(exports, "_in_process", make)
    names = {"corpus": ["good", "bad"], "applications": ["large"]}
    monkeypatch.setattr(exports, "names_in", names.get)
    out = io.StringIO()
    exports.sweep({"corpus": ["good", "bad"]}, 0, tmp_path, file=out)
    assert "1/2 good: 1,234" in out.getvalue()
    assert "dynamic: No. / really" in out.getvalue()
    rows = exports.sweep(names, 0, tmp_path, file=out)
    # What failed is tried again, what was refused is not.
    assert made == ["good", "bad", "bad", "large"]
    assert [row["name"] for row in rows] == ["good", "bad", "large"]
    assert json.loads((tmp_path / "results.json").read_text()) == rows
    assert "failed: killed" in (tmp_path / "corpus.md").read_text()
    assert "large" in (tmp_path / "applications.md").read_text()
    assert "yet" not in (tmp_path / "applications.md").read_text()
    exports.sweep({"corpus": ["good"]}, 0, tmp_path, afresh=True, file=out)
    exports.sweep({"corpus": ["good"]}, 1, tmp_path, file=out)
    assert made[4:] == ["good", "good"]
    assert len(json.loads((tmp_path / "results.json").read_text())) == 3


def test_the_table():
    lines = exports.table([ROW]).splitlines()
    assert lines[0] == (
        "Files of 1 models: 1 in float32, 0 in dynamic, 1 in int8; 0 models "
        "failed."
    )
    assert lines[4] == (
        "| small / one | 1,234 | 12,345 / - / 12,345 | 6,789 / - / 6,789 "
        "| 10 / - / 10 | 1e-03 / - / 1e-03 | 2 |"
    )
    assert lines[-1] == "- small / one, dynamic: No. / really"
    text = exports.table([ROW], missing=["large"])
    assert text.endswith("\nNot exported yet: large.\n")


def test_tables_are_made_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "names_in", lambda table: [ROW["name"]])
    (tmp_path / "results.json").write_text(json.dumps([ROW]))
    out = run(f"--again={tmp_path}")
    assert out.strip() == exports.table([ROW]).strip()
    assert (tmp_path / "corpus.md").read_text() == exports.table([ROW])
    assert not (tmp_path / "applications.md").exists()


def test_refuses_what_it_does_not_know(run, tmp_path):
    with pytest.raises(SystemExit, match="`only`.*Received: only=V-Net"):
        run("--only=V-Net")
    with pytest.raises(SystemExit, match="`again`.*results.json"):
        run(f"--again={tmp_path}")
    with pytest.raises(flags.IllegalFlagValueError, match="tables"):
        run("--tables=zoo")


def test_all_models_have_rows():
    assert exports.names_in("corpus") == list(exports.ENTRIES)
    assert len(exports.names_in("applications")) >= 40
