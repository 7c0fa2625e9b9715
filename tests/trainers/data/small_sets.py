"""Data sets of tensorflow_datasets with the papers' names and few examples.

`tfds.testing.mock_data` has no splits without metadata from the network, so
the sets are really prepared, of random images instead of the original files.
"""

import numpy as np
import pytest
import tensorflow_datasets as tfds

TRAIN = 12
TEST = 5


def prepare(folder):
    """Prepares MNIST, Fashion-MNIST, both CIFARs and ImageNet in a folder."""
    for name, classes, make in (
        ("mnist", 10, _mnist),
        ("fashion_mnist", 10, _mnist),
        ("cifar10", 10, _cifar),
        ("cifar100", 100, _cifar),
        ("imagenet2012", 1000, _imagenet),
    ):
        builder = tfds.builder_cls(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                builder, "_split_generators", lambda *_: make(classes)
            )
            # The checksums are those of files that are not used.
            tfds.builder(name, data_dir=folder).download_and_prepare(
                download_config=tfds.download.DownloadConfig(num_shards=3)
            )


def _mnist(classes):
    def examples(count):
        rng = np.random.default_rng(count)
        for index in range(count):
            yield (
                index,
                {
                    "image": rng.integers(0, 256, (28, 28, 1), "uint8"),
                    "label": rng.integers(0, classes),
                },
            )

    return {"train": examples(TRAIN), "test": examples(TEST)}


def _cifar(classes):
    def examples(count):
        rng = np.random.default_rng(count)
        for index in range(count):
            example = {
                "id": str(index),
                "image": rng.integers(0, 256, (32, 32, 3), "uint8"),
                "label": rng.integers(0, classes),
            }
            if classes == 100:
                example["coarse_label"] = 0
            yield index, example

    return {"train": examples(TRAIN), "test": examples(TEST)}


def _imagenet(classes):
    def examples(count, labelled=True):
        rng = np.random.default_rng(count)
        for index in range(count):
            sides = rng.integers(40, 90, 2)
            yield (
                index,
                {
                    "file_name": f"{index}.JPEG",
                    "image": rng.integers(0, 256, (*sides, 3), "uint8"),
                    "label": rng.integers(0, classes) if labelled else -1,
                },
            )

    return {
        "train": examples(TRAIN),
        "validation": examples(TEST),
        "test": examples(TEST, labelled=False),
    }
