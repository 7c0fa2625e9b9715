"""Checks that the trained results are what their cards and the pages say."""

import json
import pathlib
import re

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


def page(name):
    return (ROOT / "docs" / "results" / f"{name}.md").read_text()


def included(path):
    """How a page includes a file, so that no number is typed twice."""
    return f'--8<-- "saved_models/{path}"'


def test_cards_and_the_table_of_runs_are_what_the_program_writes():
    from trainers.studies import summary

    root = ROOT / "saved_models"
    for folder, reports in summary.saved(root).items():
        assert read(pathlib.Path(folder) / "report.json") in reports
        card = (pathlib.Path(folder) / "README.md").read_text()
        assert card == summary.card(reports, folder)
        size = (pathlib.Path(folder) / "model.tflite").stat().st_size
        assert f"{size:,}" in card
    assert (root / "runs.md").read_text() == summary.runs_table(root) + "\n"
    assert included("runs.md") in page("index")


def check_study(study, folder, name):
    """Whether a page includes the tables that the program makes."""
    results = read(ROOT / "saved_models" / folder / "results.json")
    saved = (ROOT / "saved_models" / folder / "table.md").read_text()
    assert saved == study.markdown(results)
    assert included(f"{folder}/table.md") in page(name)
    return results


def test_the_readme_shows_rows_of_the_comparison():
    from trainers.studies import compare

    results = check_study(compare.STUDY, "compare", "compare")
    rows = {row["name"]: row for row in results}
    text = compare.STUDY.markdown(results)
    readme = (ROOT / "README.md").read_text()
    shown = [
        line
        for line in readme.splitlines()
        if re.match(r"\| (dense|pruned|from scratch|l0)\b", line)
    ]
    assert len(shown) == 7 and set(shown) <= set(text.splitlines())
    # The sentence below the picture.
    l0, dense = rows["l0, int8"], rows["dense"]
    assert round(l0["bytes"] / 1000) == 12 and "has\n12 kB" in readme
    assert f"of {dense['bytes'] / 1e6:.1f} MB" in readme
    assert round(dense["params"] / l0["params"], -1) == 70
    faster = dense["latency_us"] / rows["l0"]["latency_us"]
    assert f"{faster:.1f} times as fast" in readme
    pruned = rows["pruned, int8"]
    assert 0 < l0["test_error"] - pruned["test_error"] < 0.1
    assert f"has {pruned['bytes'] / 1000:.0f} kB" in readme
    # The sentences below the table.
    text = page("compare")
    assert f"has {pruned['bytes'] / l0['bytes']:.0f} times the bytes" in text
    slower = rows["pruned"]["latency_us"] / rows["l0"]["latency_us"]
    assert f"{slower:.1f} times as long" in text


def test_the_comparison_with_the_best_pruning():
    from trainers.studies import compare

    rows = check_study(compare.STUDY, "compare_mlp", "compare")
    rows = {row["name"]: row for row in rows}
    l0, pruned = rows["l0, int8"], rows["pruned, int8"]
    text = page("compare")
    assert l0["params"] == pruned["params"]
    assert f"{pruned['bytes'] / l0['bytes']:.1f} times the bytes" in text
    assert (
        f"{pruned['latency_us'] / l0['latency_us']:.1f} times as long" in text
    )


def test_the_sweep():
    from trainers.studies import sweep

    rows = check_study(sweep.STUDY, "sweep", "sweep")
    assert {row["name"] for row in rows} == {row.name for row in sweep.ROWS}
    assert len(rows) == 60
    assert max(row["difference"] for row in rows) < 1e-5


def test_sizes_are_at_most_what_was_asked():
    from trainers.studies import sizes

    for result in check_study(sizes.Sizes(), "sizes", "sizes"):
        assert 0.97 <= result["reached"] / result["asked"] <= 1, result["name"]
        assert result["norm_reached"] <= result["asked"]


def test_the_sizes_of_a_paper():
    from trainers.studies import mnist

    for result in check_study(mnist.STUDY, "mnist", "index"):
        if result["asked"]:
            assert 0.97 <= result["params"] / result["asked"] <= 1


def test_trainings_that_shrink():
    from trainers.studies import shrinking

    study = shrinking.Shrinking(shrinking.NETWORKS, {})
    for result in check_study(study, "shrinking", "speed"):
        # What `strip` leaves may differ a little from what is expected.
        assert result["way"] == "dense" or result["macs"] < 0.11


def test_sparse_trainings():
    from trainers.studies import deep_r

    results = check_study(deep_r.STUDY, "deep_r", "deep_r")
    names = {row.name for row in deep_r.ROWS}
    assert {result["name"] for result in results} == names
    limits = {"deep_r": 2662, "deep_r_half": 1331}
    for result in results:
        assert result["connections"] <= limits.get(result["name"], 1e9)


@pytest.mark.parametrize(
    "experiment, folder",
    [("lenet5", "group_sparsity"), ("vgg7", "group_sparsity_vgg7")],
)
def test_groups(experiment, folder):
    from trainers.studies import group_sparsity

    study = group_sparsity.STUDIES[experiment]
    results = check_study(study, folder, "groups")
    for row in study.rows:
        seeds = [result["seed"] for result in study.of_row(results, row)]
        assert seeds == [1, 2, 3], row.name
    for result in results:
        for counts in result["groups"]:
            stages = ("prox", "half_space", "top_k")
            zeros = sum(counts[stage] for stage in stages)
            assert counts["groups"] - zeros == counts["kept"]


def test_the_zoo():
    from trainers.studies import zoo

    rows = read(ROOT / "saved_models/zoo/zoo.json")
    saved = (ROOT / "saved_models/zoo/table.md").read_text()
    assert saved == zoo.table(rows)
    assert {row["name"] for row in rows} == set(zoo.architectures())
    assert not any(row["errors"] for row in rows)
    assert included("zoo/table.md") in page("zoo")


def test_the_wild():
    from trainers.studies import wild

    rows = read(ROOT / "saved_models/wild/wild.json")
    saved = (ROOT / "saved_models/wild/table.md").read_text()
    assert saved == wild.table(rows)
    assert [row["name"] for row in rows] == list(wild.ENTRIES)
    assert included("wild/table.md") in page("wild")


def test_the_exports():
    from trainers.studies import exports

    rows = read(ROOT / "saved_models/exports/results.json")
    known = {row["name"]: row for row in rows}
    for name in exports.missing_in("corpus", rows):
        assert "keras-hub" in name
    for name, some in exports.in_order(known).items():
        saved = (ROOT / f"saved_models/exports/{name}.md").read_text()
        missing = exports.missing_in(name, some)
        assert saved == exports.table(some, missing)
        assert included(f"exports/{name}.md") in page("exports")
    for row in rows:
        assert not row["failed"] or exports.is_known(row), row["failed"]
        for file in () if row["failed"] else row["files"].values():
            assert file.get("difference", 0.0) < 0.5


def test_speeds():
    from trainers.benchmarks import speed
    from trainers.run import tables

    results = read(ROOT / "saved_models/speed/results.json")
    saved = (ROOT / "saved_models/speed/table.md").read_text()
    assert set(results) == set(speed.RUNS)
    assert saved == tables.markdown(speed.cells(results)) + "\n"
    assert included("speed/table.md") in page("speed")


def test_files_of_recurrent_layers():
    from trainers.studies import recurrent

    rows = read(ROOT / "saved_models/recurrent/results.json")
    saved = (ROOT / "saved_models/recurrent/table.md").read_text()
    assert saved == recurrent.table(rows)
    deploy = (ROOT / "docs/guides/deploy.md").read_text()
    assert included("recurrent/table.md") in deploy


def test_the_command_of_a_newcomer():
    from trainers.studies import photos

    rows = read(ROOT / "saved_models/photos/results.json")
    saved = (ROOT / "saved_models/photos/table.md").read_text()
    assert saved == photos.table(rows)
    assert included("photos/table.md") in page("sizes")
    assert [row["name"] for row in rows] == list(photos.ROWS)
    for row in rows:
        # Two runs of a file take times that differ by some percent.
        limit = 1.05 if row["of"] == "latency" else 1.0
        assert row["reached"] <= limit * row["at_most"], row


def test_the_files_in_a_browser():
    from trainers.studies import browser

    results = read(ROOT / "saved_models/browser/results.json")
    saved = (ROOT / "saved_models/browser/table.md").read_text()
    assert saved == browser.table(results)
    assert included("browser/table.md") in page("devices")
    for drawing in results["drawings"]:
        dense, stripped, dynamic = drawing["files"]
        assert 60 * stripped["bytes"] < dense["bytes"]
        for file in (dense, stripped, dynamic):
            assert file["digit"] == drawing["digit"]
            assert file["difference"] < 1e-5


def test_the_files_on_arm():
    from trainers.studies import arm

    rows = read(ROOT / "saved_models/arm/results.json")
    saved = (ROOT / "saved_models/arm/table.md").read_text()
    assert saved == arm.table(rows)
    assert included("arm/table.md") in page("devices")
    made = [row for row in rows if "refused" not in row]
    assert {row["name"] for row in made} >= {arm.LENET5, *arm.MODELS}
    for row in made:
        # Rounding errors; with ranges found on the fly they may be steps.
        limit = 0.1 if row.get("quantization") == "dynamic" else 2e-5
        for processor in arm.PROCESSORS:
            value = row["difference"][processor]
            assert value <= (2 if isinstance(value, int) else limit), row
