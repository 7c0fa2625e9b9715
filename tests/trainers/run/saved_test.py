import json

import pytest

from trainers.run import saved


def test_file(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"")
    assert saved.find(str(path)) == ([str(path)], {})


def test_workdir_with_its_settings(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"dataset": "digits"}))
    with pytest.raises(ValueError, match="which has no model yet"):
        saved.find(str(tmp_path))
    for name in ("model.tflite", "model.keras"):
        (tmp_path / name).write_bytes(b"")
    paths, settings = saved.find(str(tmp_path))
    assert paths == [
        str(tmp_path / "model.keras"),
        str(tmp_path / "model.tflite"),
    ]
    assert settings == {"dataset": "digits"}


@pytest.mark.parametrize("name", [None, "", "none.keras", "text.txt", "."])
def test_nothing_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(ValueError, match="`input` must be a .keras file"):
        saved.find(name)
