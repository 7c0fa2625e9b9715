"""Two quantizers on small networks, and the table of what came out."""

import importlib.util
import json

import keras
import numpy as np
import pytest

from l0keras.export import Precision
from trainers.data.input_pipeline import Data
from trainers.run.workdir import RESULTS
from trainers.studies import quantizer

FOLDER = quantizer.SAVED / "quantizer"


def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (96, 6, 6, 1)).astype("uint8")
    labels = rng.integers(0, 4, 96).astype("int32")
    return Data(images[:64], labels[:64], images[64:], labels[64:], classes=4)


@pytest.mark.skipif(
    importlib.util.find_spec("litert_quantizer") is None,
    reason="it is an extra",
)
def test_rows_of_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(quantizer, "ROUNDS", 2)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu", name="hidden"),
            keras.layers.Dense(4, name="logits"),
        ]
    )
    ways = {name: rules for _, name, rules in quantizer.ways(model)}
    assert ways["dense int4"] == {
        "^(hidden|logits)$": Precision(4),
        ".": Precision(8),
    }
    chosen = ["float32", "int4, dynamic", "dense int4, GPTQ"]
    monkeypatch.setattr(
        quantizer,
        "ways",
        lambda model: [("one", name, ways[name]) for name in chosen],
    )
    rows = quantizer.study("net", model, data(), tmp_path)
    floats, four, gptq = rows
    assert floats["bytes"] > four["bytes"] == gptq["bytes"]
    assert floats["difference"] == 0 and floats["same"] == 100
    assert 0 < four["difference"] < 0.5
    assert 0 < gptq["difference"] < 0.5
    assert floats["latency"] == 1 and gptq["latency"] > 0
    text = quantizer.table(rows, [("other", "no data")])
    assert f"{four['bytes']:,}" in text
    assert "- left out: other, no data" in text


def test_the_table_is_that_of_the_results():
    rows = json.loads((FOLDER / RESULTS).read_text())
    assert quantizer.table(rows, []) == (FOLDER / "table.md").read_text()
    networks = [folder.name for folder in quantizer.networks()]
    assert list(dict.fromkeys(row["network"] for row in rows)) == networks
    with pytest.raises(ValueError, match="`networks` must be some of"):
        quantizer.networks(["nothing"])
