import json
import os

import keras
import numpy as np
import pytest

import l0keras
from l0keras.cli.main import main


def failure(capsys, *words):
    """The error of a command that fails, and leaves nothing behind."""
    before = set(os.listdir())
    assert main(list(map(str, words))) == 1
    assert set(os.listdir()) == before
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_strip(here, capsys):
    words = [
        "strip",
        str(here / "gated.keras"),
        "--output=small.keras",
        "--report=report.json",
    ]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "conv" in text and f"{os.path.getsize('small.keras'):,}" in text
    gated = keras.saving.load_model(here / "gated.keras")
    small = keras.saving.load_model("small.keras")
    x = np.random.default_rng(0).random((4, 8, 8, 1), "float32")
    pair = [model.predict(x, verbose=0) for model in (gated, small)]
    np.testing.assert_allclose(*pair, atol=1e-5)
    with open("report.json") as file:
        total = json.load(file)["total"]
    assert total["params"] == [gated.count_params(), small.count_params()]
    assert total["params"][1] < total["params"][0]
    assert sorted(os.listdir()) == ["report.json", "small.keras"]

    # Once more needs the word for it.
    assert "--overwrite" in failure(capsys, *words)
    assert main([*words, "--overwrite", "--round_to=4"]) == 0
    rounded = keras.saving.load_model("small.keras")
    assert rounded.get_layer("hidden").units == 8
    assert small.get_layer("hidden").units == 6


def test_report(here, capsys):
    assert main(["report", str(here / "model.keras")]) == 0
    assert "Nothing was cut: no channel is closed." in capsys.readouterr().out
    gated, small = str(here / "gated.keras"), "small.keras"
    assert main(["report", gated]) == 0
    alone = capsys.readouterr().out
    assert main(["strip", gated, f"--output={small}"]) == 0
    capsys.readouterr()
    assert main(["report", gated, small, "--report=r.json"]) == 0
    assert capsys.readouterr().out == alone
    with open("r.json") as file:
        assert json.load(file)["architecture"]
    error = failure(capsys, "report", small, gated)
    assert "swapped" in error and "`OTHER` must" in error
    error = failure(capsys, "report", gated, "none.keras")
    assert "`OTHER` must be a file that exists" in error


def test_export(here, capsys):
    words = ["export", str(here / "gated.keras"), "--output=f.tflite"]
    assert main(words) == 0
    assert "largest difference from the model" in capsys.readouterr().out
    gated = keras.saving.load_model(here / "gated.keras")
    x = np.random.default_rng(0).random((4, 8, 8, 1), "float32")
    outputs = l0keras.export.run_tflite("f.tflite", x)
    expected = gated.predict(x, verbose=0)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize("data", ["images", "data.npz"])
def test_export_of_integers_measures_the_file(data, here, capsys):
    words = [
        "export",
        str(here / "model.keras"),
        "--output=f.tflite",
        "--quantization=int8",
        f"--data={here / data}",
        "--rescale=1/255",
        "--report=r.json",
        "--integer_only",
        "--target=micro",
        "--c_array=a.cc",
    ]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "a.cc, a.h" in text and "arena of" in text
    assert "which is 0.003922 times what is in the data" in text
    count = 19 if data == "images" else 33
    assert f"accuracy 100.00 % on {count} examples" in text
    details = l0keras.export.signature("f.tflite")["inputs"]
    assert details["image"]["dtype"] == "int8"
    with open("r.json") as file:
        report = json.load(file)
    assert report["file"] == {"name": "accuracy", "value": 1.0}
    assert report["path"] == "f.tflite"
    with open("a.h") as file:
        assert f"kFileBytes = {report['bytes']};" in file.read()
    assert "AddFullyConnected" in report["micro"]["ops"]
    assert report["bytes"] == os.path.getsize("f.tflite")


def test_scaling_is_never_guessed_in_silence(here, capsys):
    words = [
        *("export", here / "model.keras", "--output=f.tflite"),
        f"--data={here / 'images'}",
    ]
    error = failure(capsys, *words)
    assert "`rescale` must be given" in error
    assert "100 % with --rescale=1/255" in error
    assert main([*map(str, words), "--rescale=1"]) == 0
    assert "which is 1 times what is" in capsys.readouterr().out


def test_nothing_half_written_stays(here, capsys, monkeypatch):
    with open("f.tflite", "w") as file:
        file.write("good")

    def broken(model, path, *args, **kwargs):
        with open(path, "w") as file:
            file.write("half")
        raise RuntimeError("no such operation")

    monkeypatch.setattr("l0keras.cli.commands.export.export_tflite", broken)
    words = ["export", here / "model.keras", "--output=f.tflite"]
    assert "no such operation" in failure(capsys, *words, "--overwrite")
    with open("f.tflite") as file:
        assert file.read() == "good"


def test_ctrl_c(here, capsys, monkeypatch):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("l0keras.cli.commands.strip.strip", stopped)
    words = ["strip", str(here / "model.keras"), "--output=s.keras"]
    assert main(words) == 130
    assert "Stopped." in capsys.readouterr().err
    assert not os.listdir()


def test_warnings_are_one_line(here, capsys, monkeypatch):
    import warnings

    def warn(*args, **kwargs):
        warnings.warn("What stays: all.")
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    monkeypatch.setattr("l0keras.cli.commands.strip.strip", warn)
    words = ["strip", str(here / "model.keras"), "--output=s.keras"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main(words)
    assert "warning: What stays: all.\n" in capsys.readouterr().err


def test_debug_shows_where_errors_come_from(here, tmp_path):
    with open("bad.keras", "w") as file:
        file.write("bad")
    with pytest.raises(ValueError, match="a model that Keras can load"):
        main(["report", "bad.keras", "--debug"])
