import importlib

import keras
import pytest
from keras import layers

import l0keras
from l0keras.export import measure_latency

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


def export(folder, units):
    path = folder / f"{units}.tflite"
    model = keras.Sequential([keras.Input((units,)), layers.Dense(units)])
    l0keras.export_tflite(model, path)
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latency")
    return [export(folder, units) for units in (1024, 4)]


def test_the_larger_model_takes_longer(paths):
    # A million multiplications against 16.
    large, small = measure_latency(paths, max_seconds=0.5)
    assert large > 3 * small > 0


def test_a_single_path_gives_a_number(paths):
    assert isinstance(measure_latency(paths[1], runs=1), float)


def test_free_sizes_take_as_long_as_their_sizes(tmp_path):
    inputs = keras.Input((None, None, 3), name="image")
    path = tmp_path / "free.tflite"
    l0keras.export_tflite(
        keras.Model(inputs, layers.Conv2D(4, 3)(inputs)), path, check=False
    )
    small, large = (
        measure_latency(path, max_seconds=0.2, sample_shape=shape)
        for shape in ((8, 8, 3), {"image": (128, 128, 3)})
    )
    # 225 times the pixels.
    assert large > 10 * small
    for shape in (None, (8, 8), (8, 8, 4), {"image": (8, 8)}):
        with pytest.raises(ValueError, match=r"'image' of shape \(any, any, 3"):
            measure_latency(path, sample_shape=shape)


@pytest.mark.parametrize(
    "change",
    [
        {"paths": []},
        {"paths": None},
        {"paths": [3]},
        {"paths": "/"},
        {"paths": __file__},
        {"runs": 0},
        {"runs": 1.5},
        {"max_seconds": "1"},
        {"num_threads": 0},
        {"sample_shape": 20},
        {"sample_shape": (20.5,)},
        {"sample_shape": {"typo": (4,)}},
    ],
)
def test_arguments_are_checked(paths, change):
    (name,) = change
    with pytest.raises(ValueError, match=f"`{name}`"):
        measure_latency(**{"paths": paths, **change})


def test_files_run_in_a_process_of_their_own(paths, monkeypatch):
    """One that has trained a model takes up to twice as long."""
    module = importlib.import_module(measure_latency.__module__)
    monkeypatch.setattr(module, "time", None)
    assert measure_latency(paths[1], runs=1) > 0
