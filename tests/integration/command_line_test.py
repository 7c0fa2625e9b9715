"""As a new user would: an own model, a folder of JPEGs, one command."""

import json
import os

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import l0keras
from l0keras.cli.main import main

if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT files are of TensorFlow", allow_module_level=True)


def write_jpegs(folder):
    """Writes handwritten digits as 8 x 8 images, a folder for each class."""
    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images, digits.target)):
        inner = folder / str(label)
        inner.mkdir(parents=True, exist_ok=True)
        pixels = np.round(image * 255 / 16)[..., None]
        picture = keras.utils.array_to_img(pixels, scale=False)
        picture.save(inner / f"{index:04}.jpg", quality=95)


def save_model(path, folder):
    """Trains a small convolutional network for a few epochs."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(16, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(2e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    images = keras.utils.image_dataset_from_directory(
        folder, color_mode="grayscale", image_size=(8, 8), verbose=False
    )
    model.fit(images, epochs=4, shuffle=False, verbose=0)
    model.save(path)


# The optimizer of a model that is saved before it trains has no state.
@pytest.mark.filterwarnings("ignore:Skipping variable loading")
def test_a_quarter_of_the_computation_at_the_same_accuracy(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_jpegs(tmp_path / "photos")
    save_model("model.keras", "photos")
    assert (
        main(
            [
                *("compress", "model.keras", "--data=photos"),
                *("--target_macs=0.25", "--epochs=6", "--quantization=int8"),
                *("--output=small.tflite", "--output=small.keras"),
                "--report=report.json",
            ]
        )
        == 0
    )
    text = capsys.readouterr().out
    with open("report.json") as file:
        report = json.load(file)
    dense, small = report["dense"], report["small"]
    assert 0.9 * 0.25 * dense["macs"] < small["macs"] <= 0.25 * dense["macs"]
    assert f"reached {small['macs']:,}." in text
    assert dense["score"]["value"] > 0.9
    for key in ("score", "file_score"):
        assert small[key]["value"] > dense[key]["value"] - 0.02
    assert small["bytes"] == os.path.getsize("small.tflite") < dense["bytes"]
    # The model in the other file is the same one.
    model = keras.saving.load_model("small.keras")
    assert model.compiled and l0keras.count_macs(model) == small["macs"]
    x = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 1)).astype("float32")
    outputs = l0keras.export.run_tflite("small.tflite", x)
    np.testing.assert_allclose(model.predict(x, verbose=0), outputs, atol=0.2)
    # Each number of the table is in the report, too.
    assert f"{100 * small['file_score']['value']:.2f} %" in text
    assert f"{small['bytes']:,} bytes, int8" in text
