"""Training with few connections, from end to end."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import l0keras
from l0keras.optimizers import init_sparse
from trainers.data import input_pipeline
from trainers.run import networks
from trainers.run import optimizers
from trainers.run import results
from trainers.run import tables
from trainers.run.config import Config
from trainers.run.training import BEST
from trainers.run.training import Training
from trainers.run.training import train

CONFIG = Config(
    model="mlp",
    dataset="digits",
    method="deep_r",
    use_bias=False,
    connectivity=(0.05, 0.02, 0.3),
    l1=1e-3,
    epochs=4,
    batch_size=100,
    optimizer="sgd",
    learning_rate=0.2,
    ema_momentum=0.0,
)
# 64 * 300, 300 * 100 and 100 * 10 potential connections.
COUNTS = [960, 600, 300]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deep_r")
    return folder, train(CONFIG, folder)


def test_report_counts_connections(finished):
    folder, report = finished
    model = keras.saving.load_model(folder / "model.keras")
    counts = [np.count_nonzero(layer.kernel) for layer in model.layers[1:]]
    # A connection that has just been opened is 0 still.
    assert all(
        0.3 * most < count <= most for count, most in zip(counts, COUNTS)
    )
    found = report["connections"]
    assert list(found["of_kernels"].values()) == counts
    assert found["sparse"] == sum(counts)
    assert found["potential"] == 64 * 300 + 300 * 100 + 1000
    stripped = keras.saving.load_model(folder / "stripped.keras")
    assert 0 < found["stripped"] <= found["sparse"]
    assert stripped.count_params() < model.count_params()


def test_files_with_and_without_zeros(finished):
    folder, report = finished
    stages = {"sparse", "stripped", "tflite", "tflite_sparse"}
    assert set(report["test_error"]) == stages
    assert max(report["max_difference"].values()) < 1e-4
    assert (folder / "sparse.tflite").stat().st_size == (
        report["bytes"]["tflite_sparse"]
    )
    assert report["bytes"]["tflite_sparse"] < report["bytes"]["tflite"]
    assert set(report["latency_us"]) == {"dense", "tflite", "tflite_sparse"}
    text = tables.table(report)
    assert "LiteRT, sparse encoding" in text and "connections" in text
    assert f"{report['connections']['sparse']:,}" in text


def test_history_has_shares_and_turnover(finished):
    folder, _ = finished
    with np.load(folder / "checkpoint.npz") as archive:
        history = json.loads(str(archive["meta"]))["history"]
    for row in history:
        shares = [v for name, v in row.items() if name.endswith("_active")]
        assert shares == pytest.approx([0.05, 0.02, 0.3])
        assert all(v > 0 for n, v in row.items() if n.endswith("_rewired"))
    assert (folder / "connections.png").read_bytes()[1:4] == b"PNG"


def test_a_stopped_run_goes_on_as_if_it_had_not_been(finished, tmp_path):
    folder, _ = finished

    first = Training(CONFIG, tmp_path)
    checkpoint = first._checkpoint
    save = checkpoint.on_epoch_end

    def stopping(epoch, logs=None):
        save(epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    checkpoint.on_epoch_end = stopping
    with pytest.raises(KeyboardInterrupt):
        first.run()
    train(CONFIG, tmp_path)
    models = [
        keras.saving.load_model(place / "model.keras")
        for place in (folder, tmp_path)
    ]
    for one, other in zip(*(model.get_weights() for model in models)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "soft_deep_r"},
        {"method": "static", "l1": 1e-4},
        {"method": "l1", "connectivity": (0.01,), "l1": 0.01},
        {"budget": "global", "ema_momentum": 0.9},
    ],
)
def test_other_methods(changes, tmp_path):
    config = dataclasses.replace(CONFIG, epochs=2, **changes)
    report = train(config, tmp_path)
    counts = report["connections"]
    assert 0 < counts["sparse"] < 0.9 * counts["potential"]
    assert report["test_error"]["stripped"] == report["test_error"]["sparse"]
    if config.method == "static":
        assert list(counts["of_kernels"].values()) == COUNTS
    drawn = config.method in ("deep_r", "soft_deep_r")
    assert (tmp_path / "connections.png").exists() == drawn


@pytest.mark.parametrize("pixels", [64, 61])
def test_a_file_without_zeros_whatever_is_read(pixels, tmp_path):
    """With 61 pixels LiteRT would err, see `results`."""
    model = networks.build(CONFIG, (8, 8, 1), 10, 1437)
    init_sparse(model, [("fc1", 0.02), (".", 0.1)], seed=1)
    first, *_ = optimizers.kernels_of(model)
    first.assign(first.numpy() * (np.arange(64) < pixels)[:, None])
    held, file = results._without_zeros(model, str(tmp_path / "a.tflite"))
    assert (held is model) == (pixels == 61)
    assert file.bytes < 4 * np.prod(first.shape)
    x = np.random.default_rng(0).random((5, 8, 8, 1), "float32")
    found = l0keras.export.run_tflite(file.path, x)
    np.testing.assert_allclose(found, model(x), atol=1e-5)


def test_stops_when_validation_does_and_takes_the_best(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        epochs=30,
        validation_examples=200,
        patience=2,
        # So fast that it soon gets no better.
        learning_rate=1.0,
    )
    run = Training(config, tmp_path)
    assert run._data.num_train == 1437 - 200
    report = run.run()
    accuracies = [row["val_accuracy"] for row in run._checkpoint.history]
    assert len(accuracies) == report["epochs"] < 30
    best = accuracies.index(max(accuracies))
    assert len(accuracies) == best + 3
    model = keras.saving.load_model(tmp_path / "model.keras")
    held = [images for images, _ in run._validation]
    labels = np.concatenate([labels for _, labels in run._validation])
    assert len(labels) == 200
    logits = np.concatenate([model.predict(x, verbose=0) for x in held])
    accuracy = np.mean(np.argmax(logits, -1) == labels)
    assert accuracy == pytest.approx(max(accuracies))
    assert (tmp_path / BEST).exists()
    assert "best epoch in validation" in tables.table(report)


def test_held_out_examples_are_not_trained_on():
    data = input_pipeline.load("digits")
    rest, validation = data.hold_out(300, seed=1)
    held = np.concatenate([images for images, _ in validation])
    assert len(held) == 300 and rest.num_train == data.num_train - 300

    def key(images):
        return sorted(
            np.round(16 * np.asarray(image)).astype("uint8").tobytes()
            for image in images
        )

    kept = rest.train_images / 16
    assert sorted(key(held) + key(kept)) == key(data.train_images / 16)
    same, _ = data.hold_out(300, seed=1)
    np.testing.assert_array_equal(same.train_labels, rest.train_labels)
    other, _ = data.hold_out(300, seed=2)
    assert np.any(other.train_labels != rest.train_labels)
    for count in (0, data.num_train):
        with pytest.raises(ValueError, match="`validation_examples`.*1437"):
            data.hold_out(count, seed=1)
