"""The data sets of tests, prepared once a session."""

import dataclasses
import functools
import os
import pathlib

import pytest

from tests.trainers.data import small_sets as small_sets_files
from tests.trainers.data import timit_files
from trainers.data import input_pipeline


@pytest.fixture(scope="session")
def originals():
    """The folder with the original files of MNIST and Fashion-MNIST."""
    default = pathlib.Path(__file__).parents[3] / "shared" / "datasets"
    folder = pathlib.Path(os.environ.get("L0KERAS_DATASETS", default))
    if not (folder / "mnist").is_dir():
        pytest.skip(
            f"no data sets in {folder}; set L0KERAS_DATASETS to a folder with "
            "the original files in mnist/ and fashion_mnist/"
        )
    return folder


@pytest.fixture(scope="session")
def digits():
    return input_pipeline.load("digits")


@dataclasses.dataclass(frozen=True)
class Timit:
    """A small corpus and where it is prepared."""

    manual_dir: pathlib.Path
    data_dir: pathlib.Path

    @functools.cache
    def load(self, **arguments):
        return input_pipeline.load(
            "timit", self.data_dir, self.manual_dir, **arguments
        )


@pytest.fixture(scope="session")
def timit(tmp_path_factory):
    """A `Timit` of NIST SPHERE files."""
    folder = tmp_path_factory.mktemp("timit")
    timit_files.write(folder / "raw" / "TIMIT")
    return Timit(folder / "raw", folder / "tfds")


@pytest.fixture(scope="session")
def small_sets(tmp_path_factory):
    """A data_dir with a few random images under the papers' names."""
    folder = tmp_path_factory.mktemp("small_sets")
    small_sets_files.prepare(folder)
    return folder
