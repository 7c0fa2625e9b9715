import os
import sys
import types
import zipfile

import keras
import numpy as np
import pytest

from l0keras.cli.loading import custom_objects
from l0keras.cli.loading import load

OWN = """
import keras

class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def flags(*modules, unsafe=False):
    return types.SimpleNamespace(custom_objects=list(modules), unsafe=unsafe)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


@pytest.mark.parametrize("name", ["own_layers", "inner/own_layers.py"])
def test_modules_name_classes(name, tmp_path):
    path = tmp_path / (name if name.endswith(".py") else f"{name}.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(OWN)
    Twice = custom_objects([name])["Twice"]
    model = keras.Sequential([keras.Input((3,)), Twice()])
    model.save("m.keras")
    before = list(sys.path)
    with pytest.raises(ValueError, match="with class 'Twice'. --custom_obj"):
        load("m.keras", flags())
    loaded = load("m.keras", flags(name))
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(loaded(x), 2 * x)
    assert sys.path == before


def test_modules_that_cannot_be_imported(tmp_path):
    (tmp_path / "broken_layers.py").write_text("1 / 0")
    for name in ("broken_layers", "broken_layers.py", "none_layers", "n.py"):
        with pytest.raises(ValueError, match="`custom_objects` must be a mod"):
            load("m.keras", flags(name))


def test_code_in_files_is_run_only_if_asked_for():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Lambda(lambda x: x + 1)]
    )
    model.save("m.keras")
    with pytest.raises(ValueError, match="without code of its own.*--unsafe"):
        load("m.keras", flags())
    loaded = load("m.keras", flags(unsafe=True))
    np.testing.assert_array_equal(loaded(np.zeros((1, 3))), np.ones((1, 3)))


def test_damaged_files():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(40)])
    model.save("m.keras")
    with open("m.keras", "rb+") as file:
        file.truncate(os.path.getsize("m.keras") // 2)
    with pytest.raises(ValueError, match="`OTHER`.* a whole zip archive"):
        load("m.keras", flags(), "OTHER")
    with zipfile.ZipFile("m.keras", "w") as archive:
        archive.writestr("config.json", "{")
    with pytest.raises(ValueError, match="`OTHER` must be a model .*Error:"):
        load("m.keras", flags(), "OTHER")
