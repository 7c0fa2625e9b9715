import json
import os
import types

import keras
import numpy as np
import pytest

import l0keras
from l0keras.cli.commands.compress import targets_of
from l0keras.cli.flags import parse
from l0keras.cli.main import main
from l0keras.targets import Target


@pytest.fixture
def calls(monkeypatch):
    """`l0keras.compress` without training: half of the units are cut."""
    calls = []

    def compress(model, x, y=None, **arguments):
        calls.append((model, x, arguments))
        gated = l0keras.sparsify(model, l0=1e-4)
        for gate in l0keras.gates_of(gated):
            gate.log_alpha.assign(np.linspace(-9, 9, gate.log_alpha.shape[0]))
        small = l0keras.strip(gated)
        report = l0keras.report(gated, small)
        return types.SimpleNamespace(model=small, report=report)

    monkeypatch.setattr(l0keras, "compress", compress, raising=False)
    return calls


def words(here, *more):
    return [
        *("compress", str(here / "model.keras")),
        *(f"--data={here / 'data.npz'}", "--rescale=1/255"),
        *more,
    ]


def test_both_files_a_report_and_a_table(here, calls, capsys):
    flags = words(
        here,
        *("--target_params=60%", "--target_macs=0.6", "--epochs=3"),
        *("--output=s.keras", "--output=s.tflite", "--quantization=int8"),
        *("--report=r.json", "--teacher=self", "--batch_size=16"),
        "--backup_dir=backup",
    )
    assert main(flags) == 0
    [(model, x, arguments)] = calls
    assert arguments.pop("validation_data") is not None
    assert arguments == {
        "target": [Target("params", 0.6), Target("macs", 0.6)],
        "epochs": 3,
        "teacher": "self",
        "backup_dir": "backup",
    }
    assert len(x) == 96 / 16 and model.loss == "sparse_categorical_crossentropy"
    text = capsys.readouterr().out
    small = keras.saving.load_model("s.keras")
    assert f"reached {small.count_params():,}." in text
    with open("r.json") as file:
        report = json.load(file)
    assert report["dense"]["file_score"] == {"name": "accuracy", "value": 1.0}
    assert report["small"]["params"] == small.count_params()
    assert report["small"]["bytes"] == os.path.getsize("s.tflite")
    assert report["dense"]["bytes"] > report["small"]["bytes"]
    assert {"latency", "macs", "score"} < set(report["small"])
    asked, macs = report["asked"]
    assert asked["at_most"] == pytest.approx(0.6 * model.count_params())
    assert asked["reached"] == small.count_params()
    assert report["layers"]["total"]["macs"][1] == macs["reached"]
    assert sorted(os.listdir()) == ["r.json", "s.keras", "s.tflite"]
    signature = l0keras.export.signature("s.tflite")
    assert signature["inputs"]["image"]["dtype"] == "int8"


def test_more_than_asked_for_is_said(here, calls, capsys):
    flags = words(here, "--target_units=2", "--output=s.keras")
    assert main(flags) == 0
    text = capsys.readouterr().out
    assert "Asked for at most 2 units, reached 9. That is more than" in text


def test_targets():
    flags = parse(
        [
            *("compress", "m.keras", "--target_bytes=50k"),
            *("--target_latency=0.5", "--quantization=int8"),
            *("--target_units=1", "--target_params=2.5"),
        ]
    )
    assert targets_of(flags) == [
        Target("params", at_most=2.5),
        Target("units", 1.0),
        Target("bytes", at_most=50_000, quantization="int8"),
        Target("latency", 0.5, quantization="int8"),
    ]


@pytest.fixture
def uncompiled(here):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.save("u.keras")
    return words(here, "--target_macs=1", "--output=s.keras")


@pytest.mark.filterwarnings("ignore:The model is right for")
def test_a_model_without_compile_settings(uncompiled, calls, capsys):
    uncompiled[1] = "u.keras"
    assert main(uncompiled) == 1
    error = capsys.readouterr().err
    assert "`loss` must be given" in error and not calls
    for flag in ("--loss=none", "--optimizer=none"):
        flags = ["--loss=sparse_categorical_crossentropy", flag]
        assert main([*uncompiled, *flags]) == 1
        error = capsys.readouterr().err
        assert f"{flag[2:-5]}` must be a name" in error and not calls
    flags = [
        *("--loss=categorical_crossentropy", "--optimizer=sgd"),
        "--learning_rate=0.5",
    ]
    assert main([*uncompiled, *flags]) == 0
    [(model, x, _)] = calls
    assert "of logits, as the outputs are" in capsys.readouterr().out
    assert model.loss.get_config()["from_logits"]
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert float(model.optimizer.learning_rate) == 0.5
    labels = next(iter(x))[1].numpy()
    assert labels.shape == (32, 3) and set(labels.ravel()) == {0, 1}


def test_flags_take_the_place_of_compile_settings(here, calls, capsys):
    loss = keras.losses.SparseCategoricalCrossentropy()
    rate = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model = keras.saving.load_model(here / "model.keras")
    model.compile(keras.optimizers.SGD(rate, momentum=0.5), loss, ["accuracy"])
    model.save("c.keras")
    flags = words(here, "--target_macs=1", "--output=s.keras")
    flags[1] = "c.keras"
    assert main([*flags, "--learning_rate=0.25"]) == 0
    optimizer = calls[0][0].optimizer
    assert float(optimizer.learning_rate) == 0.25 and optimizer.momentum == 0.5
    assert type(calls[0][0].loss) is type(loss)


def test_what_was_trained_is_never_lost(here, calls, capsys, monkeypatch):
    module = "l0keras.cli.commands.compress.export_tflite"
    export = l0keras.export_tflite

    def second_fails(model, *args):
        if calls:
            raise RuntimeError("The file differs.")
        return export(model, *args)

    monkeypatch.setattr(module, second_fails)
    flags = words(here, "--target_macs=1", "--output=s.tflite")
    assert main(flags) == 1
    error = capsys.readouterr().err
    assert error.endswith(
        "The file differs. The small model itself is in s.keras.\n"
    )
    assert os.listdir() == ["s.keras"]
    calls.clear()
    assert main(flags) == 1
    assert "is in s1.keras." in capsys.readouterr().err
    keras.saving.load_model("s1.keras")


def test_a_model_that_litert_cannot_run_is_not_trained(here, calls, capsys):
    x = keras.Input((8, 8, 1))
    y = keras.layers.Dense(3)(keras.layers.Flatten()(keras.ops.erfinv(x / 300)))
    model = keras.Model(x, y)
    model.compile(loss="mse")
    model.save("e.keras")
    flags = words(here, "--target_macs=1", "--output=s.tflite")
    flags[1] = "e.keras"
    assert main(flags) == 1
    assert "error: " in capsys.readouterr().err
    assert not calls and os.listdir() == ["e.keras"]
