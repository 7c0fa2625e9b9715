import keras
import numpy as np
import pytest

from l0keras.cli.data.task import Task
from l0keras.cli.data.task import are_logits
from l0keras.cli.data.task import labels_from
from l0keras.cli.data.task import loss_name
from l0keras.cli.data.task import task_of

ENTROPY = "categorical_crossentropy"
BINARY = "binary_crossentropy"
SPARSE = f"sparse_{ENTROPY}"
MSE = "mean_squared_error"


def task(outputs, loss, outer=()):
    return Task((4,), "float32", (*outer, outputs), loss)


def test_the_task_of_a_model():
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.Dense(3)])
    assert task_of(model) == Task((4, 2), "float32", (4, 3), "")
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy())
    assert task_of(model).loss == SPARSE
    assert task_of(model, "mse").loss == "mse"


def test_several_inputs_or_outputs_are_for_python():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    with pytest.raises(ValueError, match="one input .* 2 inputs, a, b"):
        task_of(keras.Model([a, b], a + b))
    with pytest.raises(ValueError, match="one output .* Received: 2 outputs"):
        task_of(keras.Model(a, [a + 1, a + 2]))


@pytest.mark.parametrize(
    "loss, expected",
    [
        (None, ""),
        (SPARSE, SPARSE),
        (keras.losses.CategoricalCrossentropy(), ENTROPY),
        (keras.losses.categorical_crossentropy, ENTROPY),
        ([keras.losses.SparseCategoricalCrossentropy()], SPARSE),
        ({"out": SPARSE}, SPARSE),
    ],
)
def test_names_of_losses(loss, expected):
    assert loss_name(loss) == expected


@pytest.mark.parametrize("loss", [SPARSE, ENTROPY, ""])
@pytest.mark.parametrize("form", ["numbers", "floats", "column", "rows"])
def test_classes_in_each_form(form, loss):
    numbers = np.array([2, 0, 1, 2])
    array = {
        "numbers": numbers,
        "floats": numbers.astype("float64"),
        "column": numbers[:, None],
        "rows": np.eye(3)[numbers],
    }[form]
    labels, classes = labels_from(array, task(3, loss))
    assert classes and labels.dtype == np.int32
    np.testing.assert_array_equal(labels, numbers)
    formed = task(3, loss).label(labels)
    expected = np.eye(3)[numbers] if loss == ENTROPY else numbers
    np.testing.assert_array_equal(formed, expected)


def test_two_classes_and_one_output():
    labels, classes = labels_from(np.array([0, 1, 1]), task(1, BINARY))
    assert classes
    formed = task(1, BINARY).label(labels)
    np.testing.assert_array_equal(formed, [[0], [1], [1]])
    assert formed.dtype == "float32"


def test_values():
    values = np.array([0.0, 1.0, 2.0])
    labels, classes = labels_from(values, task(1, MSE))
    assert not classes and labels.shape == (3, 1)
    several = np.random.default_rng(0).random((5, 3))
    labels, classes = labels_from(several, task(3, MSE))
    assert not classes
    np.testing.assert_allclose(labels, several)


def test_a_class_for_each_step():
    numbers = np.array([[0, 1], [2, 2]])
    labels, classes = labels_from(numbers, task(3, SPARSE, (2,)))
    assert classes and labels.shape == (2, 2)
    labels, classes = labels_from(np.eye(3)[numbers], task(3, SPARSE, (2,)))
    np.testing.assert_array_equal(labels, numbers)


@pytest.mark.parametrize(
    "array, of, message",
    [
        ([0, 3], task(3, SPARSE), "must be from 0 to 2.*Received: 0 to 3"),
        ([-1, 2], task(3, ENTROPY), "must be from 0 to 2.*Received: -1 to 2"),
        ([0, 2], task(1, BINARY), "must be from 0 to 1.*Received: 0 to 2"),
        (["a", "b"], task(3, SPARSE), "must hold numbers"),
        ([0.5, 1.0], task(3, SPARSE), "must have numbers of classes"),
        ([[0.5, 0.1, 0]], task(3, SPARSE), "must have numbers of classes"),
        ([[0, 1], [1, 0]], task(3, ENTROPY), "must have numbers of classes"),
        ([0, 1], task(3, SPARSE, (2,)), r"\('examples', 2\)"),
    ],
)
def test_labels_that_do_not_fit(array, of, message):
    with pytest.raises(ValueError, match=message):
        labels_from(np.array(array), of)


def test_logits():
    assert are_logits([[0.2, -3.0]]) and are_logits([[4.0]])
    assert not are_logits([[0.2, 0.8], [0.0, 1.0]], SPARSE)
    # A network that has learned little, and one of independent classes.
    assert are_logits([[0.2, 0.1]], SPARSE)
    assert not are_logits([[0.2, 0.1]], BINARY)
    assert not are_logits([[0.2]], BINARY)
