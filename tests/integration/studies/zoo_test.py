import functools
import io
import json

import keras
import numpy as np
import pytest
from absl import flags
from keras.src.applications.convnext import ConvNeXt
from keras.src.applications.densenet import DenseNet

import l0keras
from trainers.benchmarks import applications
from trainers.studies import proof
from trainers.studies import zoo

ARGUMENTS = {
    "weights": None,
    "classes": 10,
    "classifier_activation": None,
    "input_shape": (32, 32, 3),
}
SETTINGS = {"seed": 0, "dense_file": False}
ROW = {
    "input": [32, 32, 3],
    "gates": {"vectors": 2, "units": 100, "open": 40},
    "params": {"dense": 2_000_000, "stripped": 500_000},
    "macs": {"dense": 8_000_000, "stripped": 1_000_000},
    "bytes": {"stripped": 2_100_000},
    "loss": 2.3,
    "max_difference": {"gated": 0.0, "stripped": 2e-6, "tflite": 3e-6},
    "seconds": {"build": 0.5, "strip": 1.25, "all": 20.0},
    "peak_gib": 1.5,
    "errors": [],
}


def densenet():
    return DenseNet([2, 1, 1, 1], **ARGUMENTS)


def convnext():
    return ConvNeXt([1] * 4, [8, 12, 16, 20], name="convnext", **ARGUMENTS)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the program's `main` with flags and gives what it printed."""

    def run(*arguments):
        values = flags.FlagValues()
        zoo.define_flags(values)
        flags.DEFINE_integer("verbosity", -1, "As absl.", flag_values=values)
        argv = values(["zoo", *arguments])
        monkeypatch.setattr(zoo, "FLAGS", values)
        zoo.main(argv)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    "build", [densenet, pytest.param(convnext, marks=pytest.mark.slow)]
)
def test_proves_small_relatives_of_the_zoo(build):
    row = proof.prove(build, dense_file=False)
    assert row["errors"] == []
    assert row["params"]["stripped"] < row["params"]["dense"]
    assert row["macs"]["stripped"] < row["macs"]["dense"]
    assert 0 < row["gates"]["open"] < row["gates"]["units"]
    assert set(row["max_difference"]) == {"gated", "stripped", "tflite"}
    assert json.loads(json.dumps(row)) == row


def test_the_difference_is_measured_by_what_outputs_say():
    expected = np.array([[100.0, 7.0], [102.0, 7.0]])
    outputs = expected + [[0.0, 0.5], [0.0, 0.0]]
    assert proof.relative_difference(outputs, expected) == 0.5
    # Nothing but what all examples share is no agreement.
    flat = np.tile(expected.mean(axis=0), (2, 1))
    assert proof.relative_difference(flat, expected) == 1.0


def test_finds_what_strip_did_wrong(monkeypatch):
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    right = l0keras.strip

    def keeps_all(gated):
        return right(gated, round_to=6)

    monkeypatch.setattr(l0keras, "strip", keeps_all)
    row = proof.prove(lambda: model, dense_file=False)
    assert "has 6 channels" in row["errors"][0]

    def breaks(gated):
        stripped = right(gated)
        kernel = stripped.layers[-1].kernel
        kernel.assign(1.01 * kernel)
        return stripped

    monkeypatch.setattr(l0keras, "strip", breaks)
    row = proof.prove(lambda: model, dense_file=False)
    assert any("stripped: outputs differ" in e for e in row["errors"])
    assert any("its own result" in e for e in row["errors"])


def test_finds_all_networks_of_keras():
    names = set(zoo.architectures())
    assert len(names) >= 40
    assert {"ResNet50", "VGG16", "NASNetMobile", "ConvNeXtXLarge"} <= names


def test_builds_for_the_smallest_images(monkeypatch):
    def network(input_shape, **kwargs):
        if input_shape[0] < 71:
            raise ValueError("Input size must be at least 71x71; Received: 32")
        return input_shape, kwargs

    monkeypatch.setattr(
        applications, "architectures", lambda: {"Network": network}
    )
    shape, arguments = zoo.builder("Network")()
    assert shape == (71, 71, 3)
    assert arguments["weights"] is None and arguments["classes"] == 10


def test_an_error_becomes_part_of_the_row():
    def prove():
        raise RuntimeError("no such op")

    row = zoo.make_row("Network", prove)
    assert row["errors"] == ["RuntimeError: no such op"]
    assert row["seconds"]["all"] >= 0 and row["peak_gib"] > 0
    assert zoo.cells(row)[0] == "Network"
    assert zoo.cells(row)[3] == "-"


def test_a_sweep_goes_on_after_errors_and_is_resumed(tmp_path):
    made = []

    def make(name, settings, errors=()):
        made.append(name)
        return {**ROW, "name": name, "errors": list(errors)}

    file = io.StringIO()
    failing = functools.partial(make, errors=["strip: off by 1"])
    zoo.sweep(["A"], SETTINGS, tmp_path, failing, file)
    zoo.sweep(["B"], SETTINGS, tmp_path, make, file)
    assert "strip: off by 1" in file.getvalue()
    rows = zoo.sweep(["A", "B"], SETTINGS, tmp_path, make, file)
    # What failed is tried again, what passed is not.
    assert made == ["A", "B", "A"]
    assert [row["name"] for row in rows] == ["A", "B"]
    assert json.loads((tmp_path / "zoo.json").read_text()) == rows
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2] == (
        "| A | 32 | 100 | 40 | 2.00 > 0.50 | 8.00 > 1.00 | - > 2.10 | 2e-06 "
        "| 3e-06 | 1.5 |"
    )
    (tmp_path / "table.md").unlink()
    assert zoo.again(tmp_path) == (tmp_path / "table.md").read_text()
    zoo.sweep(["B"], {**SETTINGS, "seed": 1}, tmp_path, make, file)
    assert made == ["A", "B", "A", "B"]


def test_the_exit_says_which_failed(run, monkeypatch, capsys, tmp_path):
    def make(name, settings):
        errors = ["broken"] if name == "VGG16" else []
        return {**ROW, "name": name, "errors": errors}

    monkeypatch.setattr(zoo, "sweep", functools.partial(zoo.sweep, make=make))
    with pytest.raises(SystemExit, match="1 of 2 networks failed: VGG16"):
        run("--models=VGG16,VGG19", f"--save_to={tmp_path}")
    assert "- VGG16: broken" in capsys.readouterr().out
    assert "All 1 networks passed" in run("--models=VGG19")


def test_refuses_what_it_does_not_know(run, tmp_path):
    with pytest.raises(SystemExit, match="`models`.*Received: VGG17"):
        run("--models=VGG17")
    with pytest.raises(SystemExit, match="All arguments must be flags"):
        run("VGG16")
    with pytest.raises(SystemExit, match="`again`.*zoo.json"):
        run(f"--again={tmp_path}")
    with pytest.raises(flags.IllegalFlagValueError, match="seed"):
        run("--seed=-1")
    (tmp_path / "zoo.json").write_text("{")
    with pytest.raises(SystemExit, match="`save_to`"):
        run("--models=VGG16", f"--save_to={tmp_path}")
