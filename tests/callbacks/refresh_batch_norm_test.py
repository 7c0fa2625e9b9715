import logging

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from l0keras.callbacks import NonFiniteError
from l0keras.callbacks import refresh_batch_norm

EPSILON = 1e-3


def convolutional(rng, **kwargs):
    """Two normalizations, one in a nested model, and what must not move."""
    inner_input = keras.Input((6, 6, 4))
    x = layers.BatchNormalization(momentum=0.9, name="second", **kwargs)(
        inner_input
    )
    inner = keras.Model(inner_input, layers.Activation("relu")(x))
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.BatchNormalization(name="first"),
            layers.Dropout(0.5),
            layers.Conv2D(4, 1, name="conv", activation="relu"),
            inner,
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model, inner.get_layer("second")


def statistics(x):
    x = np.asarray(x, "float64")
    axes = tuple(range(x.ndim - 1))
    return x.mean(axes), x.var(axes)


def normalized(x, mean, variance, gamma, beta):
    return (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta


def expected(model, second, batches):
    """The averages over batches of both layers, in numpy."""
    first, conv = model.get_layer("first"), model.get_layer("conv")
    gamma, beta, kernel, bias = (
        np.asarray(ops.convert_to_numpy(v), "float64")
        for v in (first.gamma, first.beta, conv.kernel, conv.bias)
    )
    found = {"first": [], "second": []}
    for x in batches:
        found["first"].append(statistics(x))
        x = normalized(x, *found["first"][-1], gamma, beta)
        x = np.maximum(x @ kernel[0, 0] + bias, 0)
        found["second"].append(statistics(x))
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def check(layer, values):
    for variable, value in zip(
        (layer.moving_mean, layer.moving_variance), values, strict=True
    ):
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable), value, rtol=2e-5, atol=1e-5
        )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def batches(rng):
    scales = rng.uniform(1, 4, size=5)
    return [rng.normal(s, s, (7, 6, 6, 3)).astype("float32") for s in scales]


@pytest.mark.parametrize("frozen", [False, True])
def test_are_the_plain_averages_over_batches(rng, batches, frozen):
    model, second = convolutional(rng)
    if frozen:
        model.trainable = False
    assert refresh_batch_norm(model, batches) == 2
    averages = expected(model, second, batches)
    check(model.get_layer("first"), averages["first"])
    check(second, averages["second"])


def test_nothing_else_changes(rng, batches):
    model, second = convolutional(rng)
    model.get_layer("conv").trainable = False
    first = model.get_layer("first")
    moving = {
        id(variable)
        for layer in (first, second)
        for variable in (layer.moving_mean, layer.moving_variance)
    }
    others = [v for v in model.variables if id(v) not in moving]
    assert any("seed" in variable.name for variable in others)
    before = [ops.convert_to_numpy(variable).copy() for variable in others]
    trainable = [layer.trainable for layer in model._flatten_layers()]
    refresh_batch_norm(model, batches)
    for variable, value in zip(others, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    assert [layer.trainable for layer in model._flatten_layers()] == trainable
    assert second.momentum == 0.9
    # They normalize by moving statistics at test time, and move in training.
    x = batches[0]
    mean = ops.convert_to_numpy(first.moving_mean).copy()
    output = normalized(
        x,
        *(ops.convert_to_numpy(v) for v in first.variables[2:]),
        *(ops.convert_to_numpy(v) for v in first.variables[:2]),
    )
    np.testing.assert_allclose(first(x, training=False), output, atol=1e-4)
    first(x, training=True)
    assert not np.allclose(ops.convert_to_numpy(first.moving_mean), mean)


def test_takes_at_most_so_many_batches_of_anything(rng, batches):
    model, second = convolutional(rng)

    class Dataset(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            return batches[index], np.zeros(7)

    def endless():
        yield from ((x, np.zeros(7)) for x in batches)
        raise AssertionError("one batch too many")

    values = expected(model, second, batches[:3])["second"]
    for data in (Dataset(), endless(), iter(batches)):
        second.moving_mean.assign(np.ones(4))
        refresh_batch_norm(model, data, batches=3)
        check(second, values)


def test_arrays_become_batches_of_one_size(rng):
    x = rng.normal(2.0, 3.0, (64, 5)).astype("float32")
    order = np.random.default_rng(0).permutation(64)
    values = np.mean(
        [statistics(x[order[i : i + 20]]) for i in (0, 20, 40)], axis=0
    )
    inputs = {"x": keras.Input((5,), name="x")}
    layer = layers.BatchNormalization()
    model = keras.Model(inputs, layer(inputs["x"]))
    for data in ({"x": x}, ({"x": x}, np.zeros(64))):
        layer.moving_mean.assign(np.zeros(5))
        refresh_batch_norm(model, data, batch_size=20)
        check(layer, values)
    alone = keras.Sequential([keras.Input((5,)), layer])
    refresh_batch_norm(alone, x, batch_size=200)
    check(layer, statistics(x))


def test_a_shared_layer_averages_its_calls(rng):
    inputs = [keras.Input((3,)), keras.Input((3,))]
    layer = layers.BatchNormalization()
    model = keras.Model(inputs, [layer(one) for one in inputs])
    a, b = rng.normal(size=(2, 8, 3)).astype("float32") * [[[1]], [[5]]]
    assert refresh_batch_norm(model, [((a, b), None)]) == 1
    check(layer, np.mean([statistics(a), statistics(b)], axis=0))


def test_masked_steps_do_not_count(rng):
    inputs = keras.Input((4, 3))
    layer = layers.BatchNormalization()
    model = keras.Model(inputs, layer(layers.Masking(9.0)(inputs)))
    x = rng.normal(size=(8, 4, 3)).astype("float32")
    x[:, 2:] = 9.0
    refresh_batch_norm(model, [x])
    check(layer, statistics(x[:, :2]))


def test_batch_renormalization_starts_from_the_same(rng):
    layer = layers.BatchNormalization(renorm=True)
    model = keras.Sequential([keras.Input((3,)), layer])
    x = rng.normal(3.0, 2.0, (32, 3)).astype("float32")
    refresh_batch_norm(model, [x])
    mean, variance = statistics(x)
    check(layer, (mean, variance))
    for variable, value in (
        (layer.renorm_mean, mean),
        (layer.renorm_stddev, np.sqrt(variance + EPSILON)),
        (layer.moving_stddev, np.sqrt(variance + EPSILON)),
    ):
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable), value, rtol=1e-5
        )


def test_half_precision_is_averaged_in_single(rng, batches):
    keras.config.set_dtype_policy("mixed_float16")
    layer = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((6, 6, 3)), layer])
    refresh_batch_norm(model, batches)
    half = [np.asarray(x, "float16") for x in batches]
    check(layer, np.mean([statistics(x) for x in half], axis=0))


def test_without_such_layers_nothing_is_computed(caplog):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with caplog.at_level(logging.INFO):
        assert refresh_batch_norm(model, None) == 0
    assert "no batch normalization" in caplog.text


def test_layers_in_loops_stay_with_a_warning(rng, caplog):
    layer = layers.TimeDistributed(layers.BatchNormalization(name="looped"))
    alone = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((4, 3)), alone, layer])
    x = rng.normal(5.0, 1.0, (8, 4, 3)).astype("float32")
    assert refresh_batch_norm(model, [x]) == 1
    assert "'looped' keeps its moving statistics" in caplog.text
    check(alone, statistics(x))
    np.testing.assert_array_equal(layer.layer.moving_mean, np.zeros(3))


def test_statistics_that_are_not_finite_change_nothing(rng):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.BatchNormalization(),
            layers.Lambda(lambda x: x / 0.0),
            layers.BatchNormalization(name="broken"),
        ]
    )
    x = rng.normal(5.0, 1.0, (8, 3)).astype("float32")
    with pytest.raises(NonFiniteError, match="'broken'"):
        refresh_batch_norm(model, [x])
    np.testing.assert_array_equal(model.layers[0].moving_mean, np.zeros(3))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((None, []), "`model` must be a built keras.Model"),
        ((keras.Sequential([]), []), "`model` must be a built keras.Model"),
    ],
)
def test_refuses_what_is_no_model(arguments, message):
    with pytest.raises(ValueError, match=message):
        refresh_batch_norm(*arguments)


def test_refuses_wrong_data_and_numbers():
    inputs = {name: keras.Input((3,), name=name) for name in "ab"}
    outputs = [layers.BatchNormalization()(one) for one in inputs.values()]
    model = keras.Model(inputs, outputs)
    ones = np.ones((4, 3))
    with pytest.raises(ValueError, match="`batches` .*batches=0"):
        refresh_batch_norm(model, [], 0)
    with pytest.raises(ValueError, match="`batch_size` .*batch_size=0"):
        refresh_batch_norm(model, ones, batch_size=0)
    for data in (None, 3, "images"):
        with pytest.raises(ValueError, match="`data` must be an array"):
            refresh_batch_norm(model, data)
    for data in ([], {"a": ones[:0], "b": ones[:0]}):
        with pytest.raises(ValueError, match="at least one batch"):
            refresh_batch_norm(model, data)
    with pytest.raises(ValueError, match=r"as many examples .*\[3, 4\]"):
        refresh_batch_norm(model, {"a": ones, "b": ones[:3]})
