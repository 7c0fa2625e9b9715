"""Checks that the trained results are what their cards and the README say."""

import json
import pathlib

import keras
import numpy as np
import pytest

import l0keras

if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT files need TensorFlow", allow_module_level=True)

ROOT = pathlib.Path(__file__).parents[1]
REPORTS = sorted(ROOT.glob("saved_models/*/report.json"))
FOLDERS = [path.parent for path in REPORTS]


def read(path):
    return json.loads(path.read_text())


def test_there_is_a_result_for_each_flagfile_that_was_run():
    names = {
        path.stem
        for path in ROOT.glob("trainers/experiments/*.flags")
        if "Not run yet" not in path.read_text()
    }
    assert {folder.name for folder in FOLDERS} == names


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_agree_with_the_report(folder):
    report = read(folder / "report.json")
    model = keras.saving.load_model(folder / "stripped.keras")
    assert model.count_params() == report["params"]["stripped"]
    assert l0keras.count_macs(model) == report["macs"]["stripped"]
    file = folder / "model.tflite"
    assert file.stat().st_size == report["bytes"]["tflite"]
    shape = (4, *model.input_shape[1:])
    images = np.random.default_rng(0).random(shape, "float32")
    logits = model.predict(images, verbose=0)
    scale = np.abs(logits).max()
    difference = l0keras.export.run_tflite(file, images) - logits
    assert np.abs(difference).max() < 1e-5 * scale


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_flagfile_is_what_was_run(folder):
    flags = dict(
        line.removeprefix("--").split("=")
        for line in (ROOT / f"trainers/experiments/{folder.name}.flags")
        .read_text()
        .splitlines()
        if line.startswith("--")
    )
    config = read(folder / "report.json")["config"]
    for name, value in flags.items():
        stored = config[name]
        if isinstance(stored, list):
            assert [float(part) for part in value.split(",")] == stored, name
        elif isinstance(stored, bool):
            assert value == str(stored).lower(), name
        else:
            assert type(stored)(value) == stored, name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_readme_has_the_numbers_of_every_seed(folder):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("|")
    ]
    runs = read(folder / "seeds.json")
    assert read(folder / "report.json") in runs
    for run in runs:
        row = [
            f"`{folder.name}`",
            str(run["seed"]),
            run["units"]["stripped"],
            f"{run['test_error']['stripped']:.2f} %",
            f"{run['params']['stripped']:,}",
        ]
        assert row in rows


def test_the_readme_has_the_table_of_the_sweep():
    from trainers.studies import sweep

    rows = read(ROOT / "saved_models/sweep/rows.json")
    text = (ROOT / "saved_models/sweep/table.md").read_text()
    assert sweep.table(sweep.summary(rows)) == text.strip()
    assert text in (ROOT / "README.md").read_text()
    runs = {(row["network"], row["method"], row["price"]) for row in rows}
    assert len(runs) == 20 and len(rows) == 60
    assert max(row["difference"] for row in rows) < 1e-5


def test_the_readme_has_the_table_of_sparse_trainings():
    from trainers.studies import deep_r

    folder = ROOT / "saved_models/deep_r"
    results = read(folder / "results.json")
    text = (folder / "table.md").read_text()
    assert deep_r.table(results) == text.strip()
    assert text in (ROOT / "README.md").read_text()
    assert {result["name"] for result in results} == set(deep_r.NAMES)
    limits = {"deep_r": 2662, "deep_r_half": 1331}
    for result in results:
        assert result["connections"] <= limits.get(result["name"], 1e9)


@pytest.mark.parametrize(
    "experiment, folder",
    [("lenet5", "group_sparsity"), ("vgg7", "group_sparsity_vgg7")],
)
def test_the_readme_has_the_tables_of_groups(experiment, folder):
    from trainers.studies import group_sparsity

    folder = ROOT / "saved_models" / folder
    results = read(folder / "results.json")
    rows = group_sparsity.EXPERIMENTS[experiment]
    readme = (ROOT / "README.md").read_text()
    saved = (folder / "table.md").read_text()
    for make in (group_sparsity.table, group_sparsity.group_table):
        text = make(rows, results)
        assert text in saved and text in readme
    for row in rows:
        seeds = [r["seed"] for r in results if r["name"] == row.name]
        assert seeds == [1, 2, 3], row.name
    for result in results:
        for counts in result["groups"]:
            stages = ("prox", "half_space", "top_k")
            zeros = sum(counts[stage] for stage in stages)
            assert counts["groups"] - zeros == counts["kept"]
