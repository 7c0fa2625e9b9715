import keras
import numpy as np
import pytest

import l0keras
from l0keras.cli.data.task import Task
from l0keras.cli.scores import Score
from l0keras.cli.scores import score
from l0keras.cli.scores import warn_of_chance

X = np.linspace(-1, 1, 12).reshape(12, 1).astype("float32")


def task(outputs, logits=False):
    return Task((1,), "float32", (outputs,), "", logits)


def model(weights, biases):
    layer = keras.layers.Dense(len(biases))
    result = keras.Sequential([keras.Input((1,)), layer])
    layer.set_weights([np.array([weights], "float32"), np.array(biases)])
    return result


def batches(labels, size=5):
    return [
        (X[start : start + size], labels[start : start + size])
        for start in range(0, len(X), size)
    ]


def test_classes_as_numbers_and_as_rows():
    labels = (X[:, 0] > 0).astype("int32")
    labels[:3] = 1
    two = model([-1, 1], [0, 0])
    for form in (labels, np.eye(2)[labels]):
        found = score(two, batches(form), task(2))
        assert found.name == "accuracy" and found.value == 9 / 12
    assert str(found) == "75.00 %"


def test_one_output():
    labels = (X > 0.5).astype("float32")
    one = model([1], [0])
    assert score(one, batches(labels), task(1)).value == 1.0
    found = score(one, batches(labels), task(1, logits=True))
    assert found.value == pytest.approx(9 / 12)


def test_values():
    one = model([1], [0.5])
    found = score(one, batches(X[:, 0]), task(1), classes=False)
    assert found.name == "mean squared error"
    assert found.value == pytest.approx(0.25) and str(found) == "0.25"


def test_files(tmp_path):
    two, path = model([-1, 1], [0.2, 0]), str(tmp_path / "m.tflite")
    l0keras.export_tflite(two, path)
    labels = (X[:, 0] > 0).astype("int32")
    expected = score(two, batches(labels), task(2))
    assert score(path, batches(labels), task(2)) == expected
    assert 0 < expected.value < 1


def test_guesses_are_warned_of():
    with pytest.warns(
        UserWarning, match="right for 35.00 %.* 4 classes is .*25"
    ):
        warn_of_chance(Score("accuracy", 0.35), task(4))
    warn_of_chance(Score("accuracy", 0.4), task(4))
    warn_of_chance(Score("mean squared error", 0.1), task(1))
