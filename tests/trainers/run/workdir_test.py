import json
import os

import pytest

from trainers.run.workdir import Workdir
from trainers.run.workdir import replacing
from trainers.run.workdir import write_json

SETTINGS = {"model": "mlp", "l0_lambda": [0.1], "seed": 0}


def test_the_same_experiment_may_come_back(tmp_path):
    for _ in range(2):
        folder = Workdir(tmp_path / "new" / "run", SETTINGS)
        folder.claim()
        folder.close()


def test_another_experiment_is_refused_and_named(tmp_path):
    folder = Workdir(tmp_path, SETTINGS)
    folder.claim()
    folder.close()
    with pytest.raises(ValueError, match="differs in seed=0 there, 1 now$"):
        Workdir(tmp_path, {**SETTINGS, "seed": 1})
    # The refusal let go of the folder.
    Workdir(tmp_path, SETTINGS).close()


def test_a_run_that_never_started_claims_nothing(tmp_path):
    Workdir(tmp_path, SETTINGS).close()
    Workdir(tmp_path, {**SETTINGS, "seed": 1}).close()


def test_two_runs_at_once_are_refused(tmp_path):
    folder = Workdir(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="no other run is using"):
        Workdir(tmp_path, SETTINGS)
    folder.close()
    Workdir(tmp_path, SETTINGS).close()


def test_damaged_settings_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is damaged"):
        Workdir(tmp_path, SETTINGS)
    assert (tmp_path / "config.json").read_text() == "{"


def test_unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`workdir` must be a folder that"):
        Workdir(tmp_path / "file" / "run", SETTINGS)
    with pytest.raises(ValueError, match="`workdir` must be a folder for"):
        Workdir(None, SETTINGS)


def test_replacing_is_all_or_nothing(tmp_path):
    path = str(tmp_path / "a.json")
    write_json(path, {"x": 1})
    with pytest.raises(KeyError):
        with replacing(path) as temporary:
            with open(temporary, "w") as file:
                file.write("half")
            raise KeyError
    with open(path) as file:
        assert json.load(file) == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]
