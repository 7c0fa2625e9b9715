import numpy as np
import pytest
import tensorflow as tf

from l0keras.export.litert.representative import representative_examples
from l0keras.export.litert.source import Input

ONE = [Input("x", (None, 3), "float32")]
TWO = [Input("a", (None, 3), "float32"), Input("b", (None, 2), "int32")]
X = np.arange(1200, dtype="float64").reshape(400, 3)
B = np.arange(800).reshape(400, 2)


def rows(examples, name="x"):
    assert all(list(example)[0] is not None for example in examples)
    return np.concatenate([example[name] for example in examples])


def test_arrays():
    examples = representative_examples(X, ONE)
    assert {example["x"].shape for example in examples} == {(1, 3)}
    np.testing.assert_array_equal(rows(examples), X)
    assert rows(examples).dtype == "float32"


def test_many_are_thinned_out_evenly():
    examples = representative_examples(np.arange(5994.0).reshape(-1, 3), ONE)
    first = rows(examples)[:, 0]
    assert len(first) == 500 and first[0] == 0 and first[-1] == 5991
    assert set(np.diff(first)) <= {9.0, 12.0, 15.0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.data.Dataset.from_tensor_slices(X).batch(32),
        lambda: tf.data.Dataset.from_tensor_slices((X, X[:, 0])).batch(32),
        lambda: (X[i : i + 50] for i in range(0, 400, 50)),
        lambda: lambda: (X[i : i + 50] for i in range(0, 400, 50)),
        lambda: [(X[i : i + 50], i) for i in range(0, 400, 50)],
        lambda: {"x": X},
        lambda: [X],
        lambda: tf.constant(X),
    ],
)
def test_one_input(make):
    np.testing.assert_array_equal(rows(representative_examples(make(), ONE)), X)


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": X, "b": B},
        lambda: (X, B),
        lambda: tf.data.Dataset.from_tensor_slices({"a": X, "b": B}).batch(7),
        lambda: tf.data.Dataset.from_tensor_slices(((X, B), X)).batch(7),
        lambda: tf.data.Dataset.from_tensor_slices(
            ({"a": X, "b": B}, X[:, 0])
        ).batch(7),
    ],
)
def test_two_inputs(make):
    examples = representative_examples(make(), TWO)
    np.testing.assert_array_equal(rows(examples, "a"), X)
    np.testing.assert_array_equal(rows(examples, "b"), B)
    assert rows(examples, "b").dtype == "int32"


def test_no_more_is_read_than_needed():
    def endless():
        while True:
            yield X

    assert len(representative_examples(endless(), ONE)) == 500


def test_free_sizes():
    inputs = [Input("x", (None, None, 3), "float32")]
    examples = representative_examples(np.zeros((40, 7, 3)), inputs)
    assert examples[0]["x"].shape == (1, 7, 3)


def changed(place, value, data=X):
    data = np.array(data, "float64")
    data[place] = value
    return data


TOKENS = [Input("t", (None, 2), "int32", 5)]
WORDS = np.zeros((40, 2))


@pytest.mark.parametrize(
    "data, inputs, text",
    [
        (changed((3, 1), np.nan), ONE, r"finite .*'x'. .*nan at .*\(3, 1\)"),
        (changed((0, 2), np.inf), ONE, r"inf at index \(0, 2\)"),
        (changed((7, 0), 1e39), ONE, r"1e\+39 at index \(7, 0\)"),
        # The index is that in the data, which are batches here.
        ([X[:50], changed((4, 1), -np.inf)], ONE, r"-inf at .*\(54, 1\)"),
        (X + 1j, ONE, "real numbers.*complex128 for input 'x'"),
        (np.full((40, 3), "a"), ONE, "real numbers"),
        (changed((2, 1), 0.5, WORDS), TOKENS, r"integers .*0.5 at .*\(2, 1\)"),
        (changed((1, 0), 5, WORDS), TOKENS, r"from 0 to 4 .*'t'.*\(1, 0\)"),
        (changed((1, 0), -1, WORDS), TOKENS, r"from 0 to 4"),
        ({"a": X, "b": changed((9, 0), 2**40, B)}, TWO, "dtype int32 .*'b'"),
    ],
)
def test_numbers_are_checked(data, inputs, text):
    with pytest.raises(ValueError, match=f"`representative_data`.*{text}"):
        representative_examples(data, inputs)


@pytest.mark.parametrize(
    "data, inputs, text",
    [
        (X[:31], ONE, "at least 32 examples.*Received: 31"),
        ([], ONE, "at least 32 examples.*Received: 0"),
        (X[:, :2], ONE, r"shape \(None, 3\) for input 'x'.*\(400, 2\)"),
        (X[0], ONE, r"for input 'x'.*\(3,\)"),
        ([X[0]] * 40, ONE, r"for input 'x'.*\(3,\)"),
        ({"y": X}, ONE, r"keys \['x'\].*\['y'\]"),
        (X, TWO, "for each of the inputs"),
        ({"a": X, "b": B[:50]}, TWO, "same number of examples"),
        (5, ONE, "arrays, a dataset or an iterable.*int"),
        (["text"] * 40, ONE, "batches for the inputs.*str"),
    ],
)
def test_what_does_not_fit_is_refused(data, inputs, text):
    with pytest.raises(ValueError, match=text):
        representative_examples(data, inputs)
