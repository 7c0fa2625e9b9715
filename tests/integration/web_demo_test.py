"""The page for the browser, as far as no browser is needed."""

import json
import shutil
import subprocess
import threading
import urllib.request

import keras
import numpy as np
import pytest

import l0keras
from trainers import web_demo


@pytest.fixture(scope="module")
def stripped():
    return keras.saving.load_model(web_demo.SAVED / "stripped.keras")


@pytest.fixture
def no_npm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_full_shape_computes_what_the_stripped_network_does(stripped):
    rng = np.random.default_rng(0)
    images = rng.random((20, 28, 28, 1), dtype="float32")
    whole = web_demo.full_shape(stripped)
    assert whole.count_params() == 431_080
    expected = stripped.predict(images, verbose=0)
    difference = np.abs(whole.predict(images, verbose=0) - expected)
    assert difference.max() < 1e-5 * np.abs(expected).max()


def test_the_folder_has_what_the_page_asks_for(tmp_path, no_npm):
    # As if npm had been here before.
    (tmp_path / web_demo.RUNTIME).mkdir(parents=True)
    web_demo.fill(tmp_path)
    assert (tmp_path / "index.html").exists()
    files = json.loads((tmp_path / "models" / "index.json").read_text())
    assert [file["file"] for file in files] == [
        "dense.tflite",
        "stripped.tflite",
        "dynamic.tflite",
    ]
    assert files[0]["text"] == "431,080 weights, 20-50-500 units"
    assert files[1]["text"] == "5,712 weights, 10-12-30 units"
    outputs = []
    rng = np.random.default_rng(0)
    images = rng.random((5, 28, 28, 1), dtype="float32")
    for file in files:
        path = tmp_path / "models" / file["file"]
        (tensor,) = l0keras.export.signature(path)["inputs"].values()
        # The runtime for browsers takes nothing else.
        assert tensor["shape"] == (1, 28, 28, 1)
        assert tensor["dtype"] == "float32"
        outputs.append(l0keras.export.run_tflite(path, images))
    largest = np.abs(outputs[0]).max()
    assert np.abs(outputs[1] - outputs[0]).max() < 1e-5 * largest
    assert np.abs(outputs[2] - outputs[0]).max() < 0.1 * largest


def test_without_npm_nothing_is_begun(tmp_path, no_npm):
    with pytest.raises(ValueError, match="npm is needed.*none on PATH"):
        web_demo.fill(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_server_knows_the_types_of_files(tmp_path):
    names = {"a.js": "text/javascript", "b.wasm": "application/wasm"}
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with web_demo.server(tmp_path) as serving:
        threading.Thread(target=serving.serve_forever).start()
        try:
            for name, kind in names.items():
                where = f"http://127.0.0.1:{serving.server_port}/{name}"
                with urllib.request.urlopen(where) as answer:
                    assert answer.headers["Content-Type"] == kind
        finally:
            serving.shutdown()


def test_the_page_loads_from_beside_itself_alone():
    for path in web_demo.PAGE.iterdir():
        assert path.stat().st_size < 20_000
        assert "//cdn" not in path.read_text()
        assert "https:" not in path.read_text()


@pytest.mark.parametrize("name", ["demo.js", "image.js"])
def test_the_code_parses(name, tmp_path):
    if not shutil.which("node"):
        pytest.skip("there is no node")
    # Only as a module it may wait at its top.
    path = tmp_path / name.replace(".js", ".mjs")
    shutil.copy(web_demo.PAGE / name, path)
    subprocess.run(["node", "--check", path], check=True)
