r"""Runs the page of `trainers.web_demo` in a browser without a screen.

    python -m trainers.studies.browser --save_to=saved_models/browser

draws digits on the page with the mouse of Chromium, compares the outputs of
each file there and here on the image that the page made, and keeps bytes,
milliseconds and a picture of the page. It needs Chromium and its driver, npm,
and the extra `browser`.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
import threading

import numpy as np
from absl import flags
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import l0keras
from trainers import web_demo
from trainers.run import program
from trainers.run import tables
from trainers.run.workdir import RESULTS

FLAGS = flags.FLAGS
PICTURE = "page.png"
SIZE = (1100, 820)
# Seconds for the runtime to load, and for a measurement on a busy machine.
PATIENCE = 120
# Without screen and without anything but the page, also as root.
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NOTE = (
    "without a screen; ms: of one image on one thread, the median over the "
    "drawings; difference: the largest between logits in the browser and of "
    "ai-edge-litert here, as a share of the largest logit."
)
# Strokes from the middle of the paper, in its pixels.
STROKES = {
    0: [(0, -95), (-55, -60), (-65, 0), (-50, 65), (0, 95), (55, 60)]
    + [(65, 0), (50, -65), (0, -95)],
    1: [(10, -95), (0, 95)],
    2: [(-60, -60), (-25, -95), (35, -90), (55, -50), (15, 10), (-60, 85)]
    + [(70, 85)],
    3: [(-50, -85), (35, -90), (50, -45), (-10, -5), (55, 40), (40, 85)]
    + [(-55, 90)],
    7: [(-60, -85), (60, -85), (20, 0), (-5, 95)],
}


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "workdir",
        os.path.join("runs", "web_demo"),
        "Folder for the page and all that it needs.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "save_to",
        None,
        f"Folder for {RESULTS}, table.md and {PICTURE}; nothing is kept "
        "if unset.",
        flag_values=flag_values,
    )


def missing():
    """The command that is needed and not there, or `None`."""
    for name in ("chromium", "chromedriver", "npm"):
        if not shutil.which(name):
            return name
    return None


@contextlib.contextmanager
def opened(workdir, dark=False):
    """The page in a browser, ready to draw on.

    Args:
        workdir: a folder that `web_demo.fill` has filled, or `docs/demo`
            itself, whose page says what it lacks.
        dark: whether the browser prefers dark pages.

    Yields:
        A `selenium.webdriver.Chrome`.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as profile:
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        with webdriver.Chrome(options, service) as browser:
            browser.set_window_size(*SIZE)
            scheme = {"name": "prefers-color-scheme"}
            scheme["value"] = "dark" if dark else "light"
            browser.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [scheme]}
            )
            with web_demo.server(workdir) as serving:
                threading.Thread(target=serving.serve_forever).start()
                try:
                    browser.get(f"http://127.0.0.1:{serving.server_port}")
                    yield browser
                finally:
                    serving.shutdown()


def wait(browser, script):
    """Waits until JavaScript returns something true, and returns it.

    Raises:
        RuntimeError: the page says that something is wrong, or nothing comes.
    """
    status = browser.find_element(By.ID, "status")

    def arrived(browser):
        if "wrong" in status.get_attribute("class"):
            raise RuntimeError(f"The page says: {status.text}")
        return browser.execute_script(f"return {script}")

    try:
        return WebDriverWait(browser, PATIENCE).until(arrived)
    except TimeoutException:
        raise RuntimeError(
            f"The page does not come to {script}. It says: {status.text}"
        ) from None


def draw(browser, strokes):
    """Draws strokes with the mouse; returns what the page made of them.

    Returns:
        A dictionary with `image`, 784 numbers, and `files`, a list of
        dictionaries with `file`, `bytes`, `ms` and `logits`.
    """
    browser.find_element(By.ID, "clear").click()
    wait(browser, "window.demo.result === null")
    paper = browser.find_element(By.ID, "paper")
    actions = webdriver.ActionChains(browser, duration=50)
    first, *rest = strokes
    actions.move_to_element_with_offset(paper, *first).click_and_hold()
    for point in rest:
        actions.move_to_element_with_offset(paper, *point)
    actions.release().perform()
    return wait(browser, "window.demo.result")


def check(result, workdir):
    """Runs the files of a result here, on its image.

    Returns:
        A list of dictionaries with `file`, `bytes`, `ms`, `digit` and
        `difference`, of logits there and here, a share of the largest.
    """
    image = np.reshape(result["image"], (1, 28, 28, 1)).astype("float32")
    rows = []
    for file in result["files"]:
        path = pathlib.Path(workdir, "models", file["file"])
        here = l0keras.export.run_tflite(path, image)[0]
        there = np.array(file["logits"])
        difference = np.max(np.abs(here - there)) / np.max(np.abs(here))
        rows.append(
            {
                "file": file["file"],
                "bytes": file["bytes"],
                "ms": round(file["ms"], 4),
                "digit": int(np.argmax(there)),
                "difference": float(difference),
            }
        )
    return rows


def measure(workdir, picture=None):
    """Draws all digits on the page.

    Args:
        workdir: a folder that `web_demo.fill` has filled.
        picture: where to save a picture of the page; `None` saves none.

    Returns:
        A dictionary with `browser`, its name and version, and `drawings`, a
        list of dictionaries with the `digit` that was drawn and `files`, see
        `check`.
    """
    with opened(workdir) as browser:
        wait(browser, "window.demo.ready")
        drawings = [
            {"digit": digit, "files": check(draw(browser, strokes), workdir)}
            for digit, strokes in STROKES.items()
        ]
        if picture:
            browser.save_screenshot(os.fspath(picture))
        version = browser.capabilities["browserVersion"]
    return {"browser": f"Chromium {version}", "drawings": drawings}


def table(results):
    """Sets the results of `measure` as a Markdown table, a string."""
    drawings = results["drawings"]
    rows = [["file", "bytes", "ms", "digits that were meant", "difference"]]
    for files in zip(*(drawing["files"] for drawing in drawings)):
        meant = sum(
            file["digit"] == drawing["digit"]
            for file, drawing in zip(files, drawings)
        )
        rows.append(
            [
                f"`{files[0]['file']}`",
                f"{files[0]['bytes']:,}",
                f"{np.median([file['ms'] for file in files]):.3f}",
                f"{meant} of {len(drawings)}",
                _share(max(file["difference"] for file in files)),
            ]
        )
    return f"{tables.markdown(rows)}\n\n{results['browser']} {NOTE}\n"


def _share(value):
    return f"{value:.0e}" if value else "0"


@program.main(errors=(RuntimeError, OSError))
def main():
    if missing():
        raise ValueError(
            "The commands chromium, chromedriver and npm are needed. "
            f"Received: no {missing()} on PATH"
        )
    web_demo.fill(FLAGS.workdir)
    picture = None
    if FLAGS.save_to:
        os.makedirs(FLAGS.save_to, exist_ok=True)
        picture = os.path.join(FLAGS.save_to, PICTURE)
    results = measure(FLAGS.workdir, picture)
    program.show_results(results, table(results))


if __name__ == "__main__":
    program.run(main, define_flags)
