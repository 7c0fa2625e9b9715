"""The page for the browser, in a browser."""

import numpy as np
import pytest
from selenium.webdriver.common.by import By

import l0keras
from trainers import web_demo
from trainers.studies import browser

FILES = ["dense.tflite", "stripped.tflite", "dynamic.tflite"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    if browser.missing():
        pytest.skip(f"there is no {browser.missing()}")
    folder = tmp_path_factory.mktemp("page")
    try:
        web_demo.fill(folder)
    except RuntimeError as error:
        pytest.skip(f"there is no runtime: {error}")
    return folder


def result(difference=0.0, digit=3):
    logits = np.zeros(10)
    logits[digit] = 1
    return {
        "file": "a.tflite",
        "bytes": 1234,
        "ms": 0.5,
        "digit": digit,
        "difference": difference,
    }


def test_the_table():
    drawings = [
        {"digit": 3, "files": [result()]},
        {"digit": 4, "files": [{**result(2e-6), "ms": 1.5}]},
    ]
    text = browser.table({"browser": "Chromium 1.2", "drawings": drawings})
    assert "| `a.tflite` | 1,234 | 1.000 | 1 of 2 | 2e-06 |" in text
    assert "Chromium 1.2 without a screen" in text
    text = browser.table({"browser": "", "drawings": drawings[:1]})
    assert "| 0.500 | 1 of 1 | 0 |" in text


def test_outputs_are_compared_with_those_here(tmp_path):
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "a.tflite"
    path.write_bytes((web_demo.SAVED / "model.tflite").read_bytes())
    image = np.random.default_rng(0).random(784).astype("float32")
    logits = l0keras.export.run_tflite(path, image.reshape(1, 28, 28, 1))[0]
    largest = np.abs(logits).max()
    logits[2] += 0.25 * largest
    found = {"file": "a.tflite", "bytes": 5, "ms": 1.0}
    (row,) = browser.check(
        {
            "image": image.tolist(),
            "files": [{**found, "logits": logits.tolist()}],
        },
        tmp_path,
    )
    assert row["difference"] == pytest.approx(0.25, rel=1e-5)
    assert row["digit"] == logits.argmax()


@pytest.mark.slow
def test_digits_are_drawn_and_read(workdir, tmp_path):
    picture = tmp_path / "page.png"
    results = browser.measure(workdir, picture)
    assert picture.stat().st_size > 5000
    assert results["browser"].startswith("Chromium")
    assert [d["digit"] for d in results["drawings"]] == list(browser.STROKES)
    for drawing in results["drawings"]:
        assert [file["file"] for file in drawing["files"]] == FILES
        for file in drawing["files"]:
            path = workdir / "models" / file["file"]
            assert file["bytes"] == path.stat().st_size
            assert file["digit"] == drawing["digit"]
            # Weights of one byte have ranges that are found on the fly.
            limit = 0.01 if "dynamic" in file["file"] else 1e-5
            assert file["difference"] < limit
            assert 0 < file["ms"] < 1000


@pytest.mark.slow
def test_touch_clear_and_examples(workdir):
    with browser.opened(workdir, dark=True) as page:
        browser.wait(page, "window.demo.ready")
        paper = page.find_element(By.ID, "paper").rect
        center = paper["x"] + paper["width"] / 2
        places = [(center, paper["y"] + y) for y in (40, 140, 240)]
        for kind, points in (
            ("touchStart", places[:1]),
            ("touchMove", places[1:2]),
            ("touchMove", places[2:]),
            ("touchEnd", []),
        ):
            touches = [{"x": x, "y": y} for x, y in points]
            page.execute_cdp_cmd(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": touches},
            )
        browser.wait(page, "window.demo.result")
        cards = page.find_elements(By.CSS_SELECTOR, ".digit")
        assert [card.text for card in cards] == ["1"] * 3
        assert page.find_element(By.CSS_SELECTOR, ".bytes").text == (
            f"{(workdir / 'models' / FILES[0]).stat().st_size:,}"
        )
        page.find_element(By.ID, "clear").click()
        browser.wait(page, "window.demo.result === null")
        assert [card.text for card in cards] == ["\u2013"] * 3
        for digit in "370":
            page.find_element(By.ID, "example").click()
            browser.wait(
                page,
                "window.demo.result && "
                f"document.querySelector('.digit').textContent === '{digit}'",
            )


@pytest.mark.slow
def test_a_page_without_its_files_says_so():
    if browser.missing():
        pytest.skip(f"there is no {browser.missing()}")
    with browser.opened(web_demo.PAGE) as page:
        with pytest.raises(RuntimeError, match="index.json is not there.*make"):
            browser.wait(page, "window.demo.ready")
