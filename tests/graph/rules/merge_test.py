import keras
import numpy as np
import pytest
from keras import ops

from l0keras.stripping.plan import plan
from tests.graph.rules import checks

ARRAY = np.array([0.5, 1.0, -1.0, 2.0, 0.0, 3.0], "float32")
PLACES = np.linspace(0.5, 2.0, 5, dtype="float32")[:, None]


@pytest.mark.parametrize(
    "step",
    [
        lambda x: 2.0 * x,
        lambda x: x * 2,
        lambda x: 1.0 - x,
        lambda x: x - 0.5,
        lambda x: x + 0.5,
        lambda x: x / 4.0,
        lambda x: 2.0 / (x * x + 1.0),
        lambda x: x**2,
        lambda x: ops.power(2.0, x),
        lambda x: ops.maximum(x, 0.1),
        lambda x: ops.minimum(0.1, x),
        lambda x: x + ARRAY,
        lambda x: ops.subtract(ARRAY, x),
        lambda x: x * ARRAY,
        lambda x: ops.add(x, ARRAY[None, None, None]),
        lambda x: ops.multiply(ops.convert_to_tensor(ARRAY), x),
        lambda x: ops.divide(x, ARRAY + 2.0),
        lambda x: ops.maximum(x1=x, x2=ARRAY),
        lambda x: ops.clip(x, -0.5, 0.5),
        lambda x: ops.log(ops.exp(x)),
        lambda x: ops.cast(ops.cast(x, "float16"), "float32"),
        lambda x: x + x * 0.5,
        lambda x: ops.where(x > 0.1, x, x * 1.0),
        lambda x: ops.where(ARRAY != 0.1, x, 2.0),
        lambda x: ops.where(ops.logical_and(x > -1.0, x != 3.0), x, x + 0.0),
        lambda x: ops.stack([x, x, x + 0.0], axis=1),
        lambda x: ops.stack([x, x], axis=-1),
    ],
    ids=range(27),
)
def test_numbers_and_arrays(step, tmp_path):
    rng = np.random.default_rng(0)
    model = checks.around(step)
    assert not checks.barriers(model)
    # All but 0 ** 0 and the like: constants stay constants.
    bias = [0.0, 0.5]
    units = checks.closed(model, rng, bias=bias, tmp_path=tmp_path)
    assert units == 4


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x * PLACES,
        lambda x: x % 0.3,
        lambda x: x // 0.3,
        lambda x: ops.arctan2(x, 0.5),
        lambda x: ops.logaddexp(x, ARRAY),
        lambda x: ops.cast(ops.cast(2.0 * x, "int32"), "float32"),
    ],
    ids=range(6),
)
def test_what_is_cut_though_its_constants_are_not_followed(step, tmp_path):
    rng = np.random.default_rng(0)
    model = checks.around(step)
    assert not checks.barriers(model)
    checks.randomize(model, rng, closed=0.0)
    after = model.get_layer("all_after")
    kernel = checks.to_numpy(after.kernel).copy()
    kernel.reshape(-1, 6, 2)[:, [1, 4]] = 0.0
    after.kernel.assign(kernel)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("before").units == 4


def test_arrays_are_cut():
    rng = np.random.default_rng(0)
    model = checks.around(lambda x: x * ARRAY)
    checks.closed(model, rng)
    from l0keras import strip

    stripped = strip(model)
    (operation,) = [
        o for o in stripped.operations if type(o).__name__ == "Multiply"
    ]
    (node,) = operation._inbound_nodes
    # What is multiplied by 0 goes as well, which here is closed anyhow.
    np.testing.assert_array_equal(
        ops.convert_to_numpy(node.arguments.args[1]), ARRAY[[0, 2, 3, 5]]
    )


def test_a_product_with_zeros_of_an_array_closes_channels():
    rng = np.random.default_rng(0)
    model = checks.around(lambda x: x * ARRAY)
    assert checks.closed(model, rng, units=[]) == 5


@pytest.mark.parametrize(
    "step, text",
    [
        (lambda x: ops.sort(x, axis=1), "no rule for"),
        (lambda x: x * np.ones((1, 1, 1, 1, 6), "float32"), "higher rank"),
    ],
    ids=range(2),
)
def test_what_is_a_barrier(step, text):
    rng = np.random.default_rng(0)
    model = checks.around(step, flat=text != "higher rank")
    assert checks.closed(model, rng) == 6
    reasons = [
        node.reasons[0]
        for node in plan(model).nodes
        if node.reasons and "kept as it is" in node.reasons[0]
    ]
    assert reasons and all(text in reason for reason in reasons)


def test_what_is_sparse():
    """Keras marks products with numbers too, which are not."""
    inputs = keras.Input((6,))
    sparse = keras.Input((6,), sparse=True)
    y = ops.absolute(inputs * 2.0)
    model = keras.Model([inputs, sparse], [y, ops.absolute(sparse)])
    values = checks.constants_of(model).values
    selectable = {value.tensor.name: value.selectable for value in values}
    assert selectable[inputs.name] and selectable[y.name]
    assert not selectable[sparse.name]
    assert list(selectable.values()).count(False) == 2
