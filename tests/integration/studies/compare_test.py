"""The comparison, on a small network and a few epochs."""

import dataclasses
import json
import os
import pathlib
import shutil

import keras
import numpy as np
import pytest
from absl import flags

import l0keras
from trainers.run import networks
from trainers.run import program
from trainers.run.config import Config
from trainers.run.finetune import FineTuning
from trainers.run.workdir import write_json
from trainers.studies import compare

pytest.importorskip("tensorflow_model_optimization")

CONFIG = Config(
    model="mlp", dataset="digits", epochs=3, ema_momentum=0.9, seed=1
)
TUNING = FineTuning(cluster_epochs=1, quantize_epochs=1, clusters=8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = networks.build(CONFIG, (8, 8, 1), 10, 1437)
    for gate in l0keras.gates_of(model):
        gate.log_alpha.assign(np.linspace(-9, 1, gate.log_alpha.shape[0]))
    l0keras.strip(model).save(folder / "stripped.keras")
    write_json(str(folder / "report.json"), {"config": CONFIG.to_json()})
    return str(folder)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("compare"))


def study_of(source):
    return compare.Comparison(source, TUNING, 2, 300)


def run(study, workdir):
    values = flags.FlagValues()
    compare.define_flags(values)
    values(["compare", f"--workdir={workdir}"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "ROUNDS", 2)
        patch.setattr(program, "set_up", lambda *numbers: None)
        return {row["name"]: row for row in study.run(values)}


@pytest.fixture(scope="module")
def rows(finished, workdir):
    return run(study_of(finished), workdir)


def read(*parts):
    return pathlib.Path(*parts).read_text()


def test_every_variant_is_measured(rows, workdir, digits):
    assert list(rows) == [variant.name for variant in compare.VARIANTS]
    images = digits.scale(digits.test_images).numpy()
    for variant in compare.VARIANTS:
        row = rows[variant.name]
        path = os.path.join(workdir, variant.last_file)
        assert row["bytes"] == os.path.getsize(path)
        assert row["gzip_bytes"] < row["bytes"]
        outputs = l0keras.export.run_tflite(path, images)
        error = 100 * np.mean(outputs.argmax(-1) != digits.test_labels)
        assert row["test_error"] == pytest.approx(error)
        q1, q3 = row["quartiles_us"]
        assert 0 < q1 <= row["latency_us"] <= q3
    assert json.loads(read(workdir, "results.json")) == list(rows.values())


def test_variants_are_what_they_are_called(rows):
    # int8 takes a quarter of the weights' bytes, sparse encoding leaves zeros
    # out, and shared values repeat themselves.
    assert rows["dense"]["bytes"] > 3 * rows["dense, int8"]["bytes"]
    assert rows["dense"]["bytes"] > 3 * rows["l0"]["bytes"]
    pruned = rows["pruned, sparse encoding"]
    assert rows["pruned"]["bytes"] > 2 * pruned["bytes"]
    assert rows["l0, clustered"]["gzip_bytes"] < rows["l0"]["gzip_bytes"] / 2
    assert rows["l0"]["macs"] < rows["pruned"]["macs"] == rows["dense"]["macs"]


def test_pruning_leaves_as_many_weights(rows, finished):
    path = os.path.join(finished, "stripped.keras")
    # Shares of zeros are those of each kernel, so rounding adds up.
    wanted = keras.saving.load_model(path).count_params()
    assert abs(rows["pruned"]["params"] - wanted) <= 0.02 * wanted + 3
    assert rows["pruned"]["params"] < rows["dense"]["params"] / 3


def test_finished_files_are_not_made_again(
    rows, finished, workdir, monkeypatch
):
    for name in ("pruned", "train_from_scratch"):
        monkeypatch.setattr(compare, name, None)
    monkeypatch.setattr(keras.Model, "fit", None)
    monkeypatch.setattr(compare.finetune, "fine_tune", None)
    again = run(study_of(finished), workdir)
    assert list(again) == list(rows)
    for name, row in again.items():
        assert row["test_error"] == rows[name]["test_error"]


def test_pruning_has_its_best_setting_on_held_out_examples(
    rows, workdir, digits
):
    found = json.loads(read(workdir, "pruning.json"))
    assert len(found) == 6
    tried = rows["pruned"]["search"]
    assert dict(tried) == found
    assert rows["pruned, int8"]["search"] == tried
    assert "search" not in rows["dense"]
    for name in list(found)[:4]:
        assert name.endswith("rate x 1, 2 epochs")
    report = json.loads(read(workdir, "dense_held_out", "report.json"))
    assert report["config"]["validation_examples"] == 300


def test_the_search_does_not_see_the_test_set(finished, tmp_path, monkeypatch):
    seen = []

    def search_on(model, sparsity, start, config, data, path):
        seen.append(data)
        return [], start

    monkeypatch.setattr(compare, "search_on", search_on)
    study = study_of(finished)
    study._open(str(tmp_path), {"data_dir": None, "manual_dir": None})
    try:
        assert study._search == ([], compare.Setting(epochs=2))
    finally:
        study.close()
    [data] = seen
    assert data.num_train == 1437 - 300 and len(data.test_labels) == 300
    trained = json.loads(read(tmp_path, "dense_held_out", "config.json"))
    assert trained["validation_examples"] == 300


def test_the_small_network_is_trained_from_new_weights(rows, workdir, finished):
    small = keras.saving.load_model(os.path.join(workdir, "from_scratch.keras"))
    cut = keras.saving.load_model(os.path.join(finished, "stripped.keras"))
    assert [v.shape for v in small.variables] == [
        v.shape for v in cut.variables
    ]
    assert rows["from scratch"]["macs"] == rows["l0"]["macs"]
    # `finished` was never trained.
    assert rows["from scratch"]["test_error"] < rows["l0"]["test_error"] - 20


def test_tables(rows, workdir):
    table = read(workdir, "table.md").splitlines()
    assert len(table) == 2 + len(rows) + 1 + 2 + 6
    row = rows["l0, int8"]
    line = next(line for line in table if line.startswith("| l0, int8 |"))
    assert f"| {row['test_error']:.2f} % | {row['params']:,} |" in line
    assert os.path.getsize(os.path.join(workdir, "compare.png")) > 10_000


def test_the_dense_network_is_trained_alike():
    dense = CONFIG.without_sparsity()
    assert dense.method == "dense"
    assert dense.weight_decay == (0.0,) and dense.l0_lambda == (0.1,)
    for name in ("model", "dataset", "epochs", "learning_rate", "seed"):
        assert getattr(dense, name) == getattr(CONFIG, name)


@pytest.mark.parametrize("case", ["nothing", "dense"])
def test_other_inputs_are_refused(case, tmp_path, finished):
    source = str(tmp_path / "none")
    message = "workdir of a finished run"
    if case == "dense":
        source, message = str(tmp_path / "dense"), "with method=dense"
        config = dataclasses.replace(CONFIG, method="dense")
        shutil.copytree(finished, source)
        write_json(
            os.path.join(source, "report.json"), {"config": config.to_json()}
        )
    with pytest.raises(ValueError, match=message):
        study_of(source)
