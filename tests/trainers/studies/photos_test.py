import os

import keras
import numpy as np

from trainers.data.input_pipeline import Data
from trainers.studies import photos


def test_writes_a_folder_for_each_class(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 8, 8, 1), "uint8")
    labels = np.arange(12, dtype="int32") % 3
    data = Data(images, labels, images, labels, 3)
    photos.write_photos(data, 9, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["class_0", "class_1", "class_2"]
    assert sorted(os.listdir(tmp_path / "class_1")) == [
        *("1.jpg", "4.jpg", "7.jpg"),
    ]
    found = keras.utils.load_img(tmp_path / "class_1/4.jpg", "grayscale")
    # JPEG loses something.
    error = np.abs(np.asarray(found, float) - images[4, ..., 0])
    assert error.mean() < 10


def test_table_has_what_was_asked_for_and_what_was_reached():
    def side(accuracy, size, latency):
        score = {"name": "accuracy", "value": accuracy}
        return {
            **{"score": score, "file_score": score},
            **{"bytes": size, "latency": latency},
        }

    report = {
        "dense": side(0.9, 40_000, 20.0),
        "small": side(0.88, 9_900, 8.5),
        "asked": [
            {"of": "bytes", "at_most": 1e4, "dense": 40_000, "reached": 9_900}
        ],
        "examples": 1200,
    }
    row = photos.row_of("a quarter", ("--target_bytes=0.25",), report)
    line = photos.table([row]).splitlines()[2]
    assert line.split(" | ")[2:] == [
        *("10,000 bytes", "9,900 bytes", "99.0%", "90.0% > 88.0%"),
        *("40,000 > 9,900", "20.0 > 8.5 |"),
    ]
