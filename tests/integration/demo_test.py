import dataclasses
import json
import os
import re

import pytest

from trainers import demo


def shortened(config):
    return dataclasses.replace(config, epochs=2, image_size=0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A demo of a few steps: its folder and the table."""
    folder = str(tmp_path_factory.mktemp("demo"))
    arguments = (shortened(demo.GATED), shortened(demo.DENSE))
    return folder, demo.demo(folder, *arguments), arguments


def test_compares_the_same_network_on_the_same_data():
    ours = dataclasses.asdict(demo.GATED)
    theirs = dataclasses.asdict(demo.DENSE)
    differing = {name for name in ours if ours[name] != theirs[name]}
    assert differing == {"method", "epochs"}
    # It comes with scikit-learn: nothing is downloaded.
    assert demo.GATED.dataset == "digits"


def test_prints_one_table(finished):
    folder, text, _ = finished
    rows = {
        line.split()[0]: line
        for line in text.splitlines()
        if line[:1].isalpha()
    }
    assert set(rows) >= {"dense", "gated", "stripped", "LiteRT"}
    with open(os.path.join(folder, "dense", "report.json")) as file:
        error = json.load(file)["test_error"]["dense"]
    # The error of the network that was trained without gates.
    assert f"{error:.2f} %" in rows["dense"]
    for stage in ("dense", "gated", "stripped", "LiteRT"):
        assert re.search(r"\d+\.\d\d %", rows[stage]), rows[stage]
    for title in ("units", "parameters", "MACs", "file bytes", "latency"):
        assert title in text


def test_leaves_everything_in_its_folder(finished):
    folder, text, _ = finished
    names = set(os.listdir(folder))
    assert names >= {
        "dense",
        "history.csv",
        "model.keras",
        "model.tflite",
        "pixel_gates.png",
        "report.json",
        "stripped.keras",
        "table.txt",
        "tensorboard",
        "units.png",
    }
    with open(os.path.join(folder, "table.txt")) as file:
        assert file.read().rstrip() == text.rstrip()


def test_the_same_again_shows_the_same_table(finished):
    folder, text, arguments = finished
    path = os.path.join(folder, "model.tflite")
    before = os.stat(path).st_mtime_ns
    assert demo.demo(folder, *arguments) == text
    assert os.stat(path).st_mtime_ns == before


def test_refuses_a_folder_that_it_cannot_use(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`workdir`"):
        demo.demo(str(tmp_path / "file"))
