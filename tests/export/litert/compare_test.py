"""Which differences between a file and its model are allowed."""

import numpy as np
import pytest

from l0keras.export.litert.compare import compare
from l0keras.export.litert.rounded import rounded

INPUTS = {"x": np.ones((4, 2), "float32")}


class Source:
    """A model whose weights make its outputs differ if they are rounded."""

    name = "model"
    half_precision = False

    def __init__(self, outputs, by_rounding=None):
        self._outputs = np.asarray(outputs)
        self._by_rounding = by_rounding

    def outputs_for(self, inputs, batch_size):
        return {"y": self._outputs}

    def rounded_outputs_for(self, inputs, bits, batch_size):
        assert bits == 8
        if self._by_rounding is None:
            return None
        return {"y": self._outputs + self._by_rounding}


def found(source, error, quantization="dynamic"):
    outputs = {"y": source.outputs_for(None, None)["y"] + error}
    return compare([outputs], source, quantization, [INPUTS], 4)[0]


def test_what_rounded_weights_explain_is_allowed():
    floats = np.array([[1.0, 2.0, -3.0, 10.0]])
    assert found(Source(floats), 0.9) == pytest.approx(0.9)
    with pytest.raises(RuntimeError, match="by 2 in output 'y'; 1 is allowed"):
        found(Source(floats), 2.0)
    with pytest.raises(RuntimeError, match="bits alone .* by 0.2"):
        found(Source(floats, 0.2), 2.0)
    assert found(Source(floats, 0.5), 2.0) == pytest.approx(2.0)
    # Half of the largest output is too much, whatever explains it.
    with pytest.raises(RuntimeError, match="5 is allowed"):
        found(Source(floats, 3.0), 6.0)
    with pytest.raises(RuntimeError, match="Inputs of 8 bits alone .* by 0"):
        found(Source(floats, 0.2), 3.0, "int8")
    # Floats are not rounded.
    with pytest.raises(RuntimeError, match="is allowed with quantization f"):
        found(Source(floats, 3.0), 2.0, None)


def test_of_integers_the_share_that_differs_counts():
    classes = np.arange(100, dtype="int32")[None]
    error = np.zeros_like(classes)
    error[0, :5] = 50
    assert found(Source(classes), error) == pytest.approx(0.05)
    error[0, :15] = 1
    with pytest.raises(RuntimeError, match="by 0.15"):
        found(Source(classes), error)


def test_weights_have_a_scale_for_each_channel():
    rng = np.random.default_rng(0)
    for shape, axis in (((5, 4), 1), ((3, 3, 4, 1), 2)):
        array = rng.normal(size=shape).astype("float32")
        factor = np.array([1, 10, 100, 0]).astype("float32")
        array *= factor.reshape(
            [-1 if i == axis else 1 for i in range(4)][: array.ndim]
        )
        new = rounded(array, 8)
        assert new.dtype == "float32" and new.shape == shape
        others = tuple(i for i in range(array.ndim) if i != axis)
        error = np.abs(new - array).max(others)
        largest = np.abs(array).max(others)
        assert np.all(error <= largest / 250)
        assert np.all(error[:3] > 0) and error[3] == 0
    bias = rng.normal(size=5)
    assert rounded(bias, 8) is bias
