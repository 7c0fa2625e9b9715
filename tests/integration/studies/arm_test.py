"""Files on emulated Arm processors, and the table of what came out."""

import shutil

import keras
import numpy as np
import pytest

import l0keras
from trainers.studies import arm
from trainers.studies import arm_python

ROW = {
    "name": "a model",
    "file": "a.tflite",
    "quantization": "int8",
    "bytes": 1234,
}


class Here:
    """In the place of an Arm processor, one that adds to all outputs."""

    def __init__(self, added):
        self._added = added

    def run(self, processor, arguments):
        outputs = arguments[-1]
        for path in outputs.parent.glob("x86-64/*.npz"):
            with np.load(path) as arrays:
                changed = {
                    name: (array + self._added).astype(array.dtype)
                    for name, array in arrays.items()
                }
            np.savez(outputs / path.name, **changed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small float file."""
    folder = tmp_path_factory.mktemp("files")
    layers = keras.layers.Dense(4, activation="relu"), keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((5,)), *layers])
    l0keras.export_tflite(model, folder / "a.tflite")
    return folder


def test_inputs_have_the_types_of_the_file():
    for name in ("model", "int8"):
        path = arm.SAVED / arm.LENET5 / f"{name}.tflite"
        (array,) = arm.random_inputs(path).values()
        assert array.shape == (arm.EXAMPLES, 28, 28, 1)
        assert array.dtype == ("float32" if name == "model" else "int8")
        assert np.ptp(array.astype("float32")) > 5
        (changed,) = arm.shaken({"image": array}).values()
        assert changed.dtype == array.dtype
        array = array[array != 0].astype("float64")
        moved = np.abs(changed[changed != 0] / array - 1)
        limits = (8e-7, 1.2e-6) if name == "model" else (0, 0)
        assert limits[0] <= moved.min() <= moved.max() <= limits[1]


def test_the_difference_of_floats_is_a_share_and_of_integers_steps():
    floats = {"y": np.array([[1.0, 16.0], [9.0, 15.0]], "float32")}
    other = {"y": floats["y"] + np.float32(0.5)}
    # The first output deviates by 4 from its mean.
    assert arm.difference(floats, other) == 0.125
    assert isinstance(arm.difference(floats, floats), float)
    integers = {"y": np.array([[-128, 5], [127, 5]], "int8")}
    other = {"y": np.array([[127, 5], [127, 6]], "int8")}
    assert arm.difference(integers, other) == 255
    assert isinstance(arm.difference(integers, other), int)


def test_outputs_that_prove_nothing_are_refused():
    array = np.array([[1.0], [2.0]], "float32")
    for other in ({"z": array}, {"y": array[:1]}, {"y": array.astype("f8")}):
        with pytest.raises(ValueError, match="here and .* there"):
            arm.difference({"y": array}, other)
    with pytest.raises(ValueError, match="'y' is not finite or is constant"):
        arm.difference({"y": array}, {"y": array * np.nan})
    same = np.ones((2, 1), "float32")
    with pytest.raises(ValueError, match="constant"):
        arm.difference({"y": same}, {"y": same})


def test_files_are_run_and_compared(folder):
    row = {"name": "small", "file": "a.tflite"}
    refused = {"name": "none", "file": "b.tflite", "refused": "No."}
    arm.compare([row, refused], folder, Here(0.25))
    assert row["bytes"] == (folder / "a.tflite").stat().st_size
    assert set(row["difference"]) == {*arm.PROCESSORS, arm.SHAKEN}
    assert 0 <= row["difference"][arm.SHAKEN] < 1e-5
    assert 1e-3 < row["difference"]["cortex-a53"]
    assert "difference" not in refused


def test_a_file_whose_outputs_cannot_be_compared_says_so(folder, tmp_path):
    (tmp_path / "a.tflite").write_bytes((folder / "a.tflite").read_bytes())
    row = {"name": "small", "file": "a.tflite"}
    arm.compare([row], tmp_path, Here(np.nan))
    assert row["refused"].startswith("cortex-a76: Output")
    assert "- small, as saved: cortex-a76" in arm.table([row])


def test_the_table():
    names = (*arm.PROCESSORS, arm.SHAKEN)
    row = {**ROW, "difference": dict.fromkeys(names, 1)}
    zero = {**ROW, "difference": dict.fromkeys(names, 0.0)}
    refused = {**ROW, "refused": "It cannot.\nReally."}
    text = arm.table([row, zero, refused])
    assert (
        "| a model | int8 | 1,234 | 1 step | 1 step | 1 step | 1 step" in text
    )
    assert "| a model | int8 | 1,234 | 0 | 0 | 0 | 0 |" in text
    assert text.endswith("\n- a model, int8: It cannot.\n")


def test_a_file_that_is_refused_has_a_row(tmp_path):
    inputs = keras.Input((4, 4, 4, 1))
    model = keras.Model(inputs, keras.ops.fft2((inputs, inputs))[0])
    data = np.random.default_rng(0).random((32, 4, 4, 4, 1), "float32")
    (row,) = arm.export_files("3D", "c", model, data, tmp_path, [None])
    assert "FFT2D" in row["refused"] and row["file"] == "c-float32.tflite"
    assert not list(tmp_path.iterdir())


def test_models_are_of_the_corpus():
    assert set(arm.MODELS) <= set(arm.ENTRIES)


def test_without_an_emulator_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="qemu-user.*neither on PATH"):
        arm_python.ArmPython(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_lenet5_on_arm(tmp_path):
    for name in ("qemu-aarch64", "apt-get", "dpkg-deb"):
        if not shutil.which(name):
            pytest.skip(f"there is no {name}")
    try:
        python = arm_python.ArmPython(tmp_path / "arm")
    except RuntimeError as error:
        pytest.skip(f"there is no Python for Arm: {error}")
    script = "import platform; assert platform.machine() == 'aarch64'"
    python.run("cortex-a53", ["-c", script])
    with pytest.raises(RuntimeError, match="exit status 3"):
        python.run("cortex-a53", ["-c", "raise SystemExit(3)"])
    folder = tmp_path / "files"
    folder.mkdir()
    rows = [
        row for row in arm.save_files(folder) if row["name"].startswith("mnist")
    ]
    arm.compare(rows, folder, python)
    for row in rows:
        worst = max(row["difference"].values())
        assert worst <= (1 if isinstance(worst, int) else 1e-5), row
