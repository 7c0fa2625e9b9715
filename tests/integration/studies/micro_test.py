"""The networks of the study of microcontrollers, and its table."""

import json

import keras
import pytest
from keras import layers

import l0keras
from trainers.run.workdir import RESULTS
from trainers.studies import arm
from trainers.studies import micro

if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT files need TensorFlow", allow_module_level=True)

SAVED = arm.SAVED / "micro"
# As the reference implementations of MLPerf Tiny have them.
PARAMS = {
    "keyword spotting, DS-CNN": 24_908,
    "visual wake words, MobileNetV1 0.25": 221_794,
    "image classification, ResNet-8": 78_666,
    "anomaly detection, autoencoder": 269_992,
}


@pytest.fixture(scope="module")
def rows():
    return json.loads((SAVED / RESULTS).read_text())


def test_networks_have_the_weights_of_the_reference(rows):
    assert list(PARAMS) == list(micro.NETWORKS)
    for name, build in micro.NETWORKS.items():
        model = build()
        assert model.count_params() == PARAMS[name]
        (whole,) = (
            row for row in rows if row["name"] == name and row["share"] == 1
        )
        assert whole["params"] == PARAMS[name]
        assert whole["macs"] == l0keras.count_macs(model)


def test_saved_rows_are_of_the_shares_that_were_asked_for(rows):
    found = [(row["name"], row["share"]) for row in rows]
    assert found == [(n, s) for n in micro.NETWORKS for s in micro.SHARES]
    for start in range(0, len(rows), len(micro.SHARES)):
        whole, *smaller = rows[start : start + len(micro.SHARES)]
        for before, row in zip((whole, *smaller), smaller):
            assert 0.9 * row["share"] < row["macs"] / whole["macs"]
            assert row["macs"] <= row["share"] * whole["macs"]
            assert row["flash_bytes"] < before["flash_bytes"]
            assert row["arena_bytes"] <= before["arena_bytes"]
    assert micro.table(rows) == (SAVED / "table.md").read_text()


def test_a_network_is_measured_whole_and_cut(tmp_path):
    pytest.importorskip("tflite_micro")

    def build():
        inputs = keras.Input((16,))
        x = layers.BatchNormalization()(layers.Dense(24)(inputs))
        return keras.Model(inputs, layers.Dense(4)(layers.ReLU()(x)))

    whole, half = micro.measure("a", build, tmp_path, (1.0, 0.5))
    assert (whole["macs"], whole["ops"]) == (480, ["AddFullyConnected"])
    assert 0.4 * 480 < half["macs"] <= 240
    assert half["flash_bytes"] < whole["flash_bytes"]
    assert whole["max_steps"] <= 1
    text = micro.table([whole, {**half, "ops": ["AddMul"]}])
    assert "| a | 480 |" in text and "| a, cut to 0.5 |" in text
    assert "- a, 1: AddFullyConnected\n- a, 0.5: AddMul" in text
