"""A small network that was trained, and its examples in files."""

import keras
import numpy as np
import pytest

import l0keras

# LiteRT files, and streams of files, are of TensorFlow.
if keras.backend.backend() == "tensorflow":
    from tests.trainers.sets import small_sets  # noqa: F401
else:
    collect_ignore_glob = ["*_test.py"]

SHAPE = (8, 8, 1)
CLASSES = ("empty", "full", "half")


def examples(count, seed=0):
    """Gray images of three classes, in uint8, and their numbers."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = rng.integers(0, 60, (count, *SHAPE))
    images[labels == 1] += 190
    images[labels == 2, :, 4:] += 190
    return images.astype("uint8"), labels.astype("int64")


def write_images(folder, count, seed=0):
    """Writes a folder of JPEGs for each class."""
    for index, (image, label) in enumerate(zip(*examples(count, seed))):
        inner = folder / CLASSES[label]
        inner.mkdir(parents=True, exist_ok=True)
        data = keras.utils.array_to_img(image, scale=False)
        data.save(inner / f"{index:03}.jpg", quality=95)


@pytest.fixture(scope="session")
def network():
    """A network that reads pixels in [0, 1] and tells three classes apart."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(SHAPE, name="image"),
            keras.layers.Conv2D(6, 3, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(1e-2),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    images, labels = examples(96)
    model.fit(images / 255.0, labels, epochs=8, verbose=0)
    assert model.evaluate(images / 255.0, labels, verbose=0)[1] == 1.0
    return model


@pytest.fixture(scope="session")
def files(network, tmp_path_factory):
    """A folder with `model.keras`, `gated.keras`, `images` and `data.npz`."""
    folder = tmp_path_factory.mktemp("cli")
    network.save(folder / "model.keras")
    gated = l0keras.sparsify(network, l0=1e-4)
    for gate in l0keras.gates_of(gated):
        gate.log_alpha.assign(np.linspace(-4, 4, gate.log_alpha.shape[0]))
    gated.save(folder / "gated.keras")
    write_images(folder / "images", 96)
    x, y = examples(96)
    x_test, y_test = examples(33, seed=1)
    np.savez(folder / "data.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """An empty current folder; gives the folder of `files`."""
    monkeypatch.chdir(tmp_path)
    return files
