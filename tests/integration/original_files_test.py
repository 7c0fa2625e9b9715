"""Data sets are prepared from the files as they were published."""

import numpy as np
import pytest

from trainers.data import input_pipeline

FIRST_LABELS = {
    "mnist": [2, 0, 4, 8, 7, 6, 0, 6],
    "fashion_mnist": [4, 4, 9, 7, 5, 1, 0, 5],
}


@pytest.mark.parametrize(
    "names",
    [["mnist"], pytest.param(list(FIRST_LABELS), marks=pytest.mark.slow)],
    ids="-".join,
)
def test_original_files(names, originals, tmp_path):
    # One after the other in one folder, where they were once mixed up.
    for name in names:
        data = input_pipeline.load(name, tmp_path, originals / name)
        assert data.test_labels[:8].tolist() == FIRST_LABELS[name]
        assert data.train_images.shape == (60_000, 28, 28, 1)
        assert data.test_images.shape == (10_000, 28, 28, 1)
        assert data.classes == 10
        # Both are balanced or nearly so, and use all grey values.
        assert np.bincount(data.train_labels).min() > 5000
        assert data.train_images.max() == 255
