import keras
import pytest
from keras import layers

import l0keras
from l0keras.targets import Target
from l0keras.targets import Yardstick

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="files need TensorFlow"
)


def dense_of(size):
    image = keras.Input((size,), name="image")
    return keras.Model(image, layers.Dense(2)(image))


@on_tensorflow
def test_latencies_are_ratios_to_the_known_one(monkeypatch):
    """Another hour in which the machine is three times as slow."""
    slow = 1.0

    def measure(paths, **_):
        signatures = map(l0keras.export.signature, paths)
        return [slow * s["inputs"]["image"]["shape"][1] for s in signatures]

    monkeypatch.setattr(l0keras.export, "measure_latency", measure)
    target = Target("latency", 0.5)
    measured = Yardstick(target, dense_of(8))
    known = Yardstick(target, dense_of(8), 100.0)
    assert measured.size == 8
    slow = 3.0
    assert measured.size_of(dense_of(2)) == pytest.approx(2)
    assert known.size_of(dense_of(2)) == pytest.approx(25)


def test_other_sizes_are_what_they_are():
    target = Target("params", 0.5, each=True)
    yardstick = Yardstick(target, dense_of(8))
    assert list(yardstick.size.values()) == [18]
    assert list(yardstick.size_of(dense_of(2)).values()) == [6]
    # A size that is known is not counted again.
    assert Yardstick(Target("params", 0.5), None, 7).size == 7
