import os

import pytest

from l0keras.cli.checks import check
from l0keras.cli.flags import parse

COMPRESS = ("compress", "m.keras", "--output=s.tflite", "--data=images")
TARGET = "--target_macs=0.5"
MICRO = ("export", "m.keras", "--output=s.tflite")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("m.keras", "n.h5", "old.keras", "old.json", "old.h", "d.npz"):
        (tmp_path / name).write_text("")
    os.mkdir("images")
    os.mkdir("folder.keras")


@pytest.mark.parametrize(
    "words",
    [
        (*COMPRESS, TARGET),
        (*COMPRESS, TARGET, "--output=s.keras", "--report=r.json"),
        ("compress", "m.keras", "--output=s.keras", "--data=d.npz", TARGET),
        ("compress", "m.keras", "--output=s.keras", "--data=cifar10", TARGET),
        ("strip", "m.keras", "--output=old.keras", "--overwrite"),
        ("report", "m.keras"),
        ("report", "m.keras", "old.keras"),
        ("export", "m.keras", "--output=s.tflite"),
        ("export", "m.keras", "--output=s.tflite", "--data=images"),
        (*MICRO, "--target=micro", "--c_array=s.cc"),
    ],
)
def test_good_flags(words):
    check(parse(list(words)))


@pytest.mark.parametrize(
    "words, message",
    [
        (("report", "n.h5"), "save\\('model.keras'\\)"),
        (("report", "none.keras"), "`MODEL` must be a file that exists"),
        (("report", "folder.keras"), "`MODEL` must be a file that exists"),
        (("report", "m.keras", "x.tflite"), "`OTHER` must be a .keras file"),
        (("strip", "m.keras"), "`output` must name the file to write, .keras"),
        (("strip", "m.keras", "--output=s.tflite"), "must end in .keras"),
        (("export", "m.keras", "--output=s.keras"), "must end in .tflite"),
        ((*COMPRESS, TARGET, "--output=s.onnx"), "end in .keras or .tflite"),
        ((*COMPRESS, TARGET, "--output=t.tflite"), "once for each of"),
        (("strip", "m.keras", "--output=no/s.keras"), "a folder that exists"),
        (("strip", "m.keras", "--output=folder.keras"), "a folder"),
        (
            ("strip", "m.keras", "--output=m.keras", "--overwrite"),
            "another fil",
        ),
        (("strip", "m.keras", "--output=old.keras"), "--overwrite"),
        (("report", "m.keras", "--report=r.txt"), "`report` must end in .json"),
        (("report", "m.keras", "--report=old.json"), "--overwrite"),
        ((*MICRO, "--c_array=s.cc"), "`c_array` is for --target=micro"),
        ((*MICRO, "--target=micro", "--c_array=s.c"), "must end in .cc"),
        ((*MICRO, "--target=micro", "--c_array=old.cc"), "old.h"),
        (COMPRESS, "At least one of --target_params"),
        ((*COMPRESS[:3], TARGET), "`data` must name the examples to train on"),
        ((*COMPRESS, TARGET, "--data=no/folder"), "`data` must be a folder or"),
        ((*COMPRESS, TARGET, "--data=x.npz"), "`data` must be a folder or"),
        ((*COMPRESS, TARGET, "--data=m.keras"), "`data` must be a folder or"),
        (
            (*COMPRESS, TARGET, "--validation_data=none"),
            "`validation_data` must be a folder or an .npz file that exists.",
        ),
        (
            (
                *(*COMPRESS, TARGET, "--validation_data=images"),
                "--validation_split=0.5",
            ),
            "must not both be given",
        ),
        (
            ("export", "m.keras", "--output=s.tflite", "--quantization=int8"),
            "`data` must name examples that the ranges of int8",
        ),
        (
            (
                *("export", "m.keras", "--output=s.tflite"),
                "--validation_data=images",
            ),
            "`validation_data` must come with `data`",
        ),
        (
            (
                *("compress", "m.keras", "--output=s.keras", "--data=images"),
                *(TARGET, "--quantization=int8"),
            ),
            "`quantization` is for .tflite files",
        ),
    ],
)
def test_wrong_flags(words, message):
    with pytest.raises(ValueError, match=message):
        check(parse(list(words)))
