import random

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.layers import L0Conv2D
from l0keras.layers import L0Dense

to_numpy = keras.ops.convert_to_numpy


def outputs(model, x):
    return to_numpy(model(x, training=False))


def set_open(gate, indices, rng):
    """Opens the gates at `indices`, at values in (0, 1], and shuts others."""
    log_alpha = np.full(gate.log_alpha.shape, -5.0)
    log_alpha[indices] = rng.uniform(-2.0, 4.0, len(indices))
    gate.log_alpha.assign(log_alpha)


def randomize(model, rng):
    for layer in model._flatten_layers():
        for weight in layer.weights:
            if weight.name == "bias" or weight.name == "beta":
                weight.assign(rng.normal(size=weight.shape))
            if weight.name == "moving_variance":
                weight.assign(rng.uniform(0.5, 2.0, weight.shape))
            if weight.name == "moving_mean":
                weight.assign(rng.normal(size=weight.shape))


def check(model, stripped, rng):
    x = rng.normal(size=(4, *model.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(
        outputs(stripped, x), outputs(model, x), rtol=0, atol=1e-5
    )


def lenet5():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            L0Conv2D(20, 5, activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            L0Conv2D(50, 5, activation="relu", name="conv2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Flatten(name="flatten"),
            L0Dense(500, activation="relu", name="dense1"),
            L0Dense(10, name="dense2"),
        ],
        name="lenet5",
    )


@pytest.mark.parametrize(
    "units, params", [((20, 25, 45, 462), 38_927), ((9, 18, 65, 25), 6_212)]
)
def test_lenet5_has_the_papers_parameters(units, params):
    rng = np.random.default_rng(0)
    model = lenet5()
    randomize(model, rng)
    conv1, conv2, dense1, dense2 = l0keras.gates_of(model)
    set_open(conv1, rng.permutation(20)[: units[0]], rng)
    maps = rng.permutation(50)[: units[1]]
    set_open(conv2, maps, rng)
    # Each open map is read at one position at least, or it would go too.
    first = rng.integers(0, 16, len(maps)) * 50 + maps
    others = (np.arange(16)[:, None] * 50 + maps).reshape(-1)
    others = rng.permutation(np.setdiff1d(others, first))
    inputs = np.concatenate([first, others[: units[2] - len(first)]])
    set_open(dense1, inputs, rng)
    set_open(dense2, rng.permutation(500)[: units[3]], rng)
    stripped = l0keras.strip(model)
    assert stripped.count_params() == params
    check(model, stripped, rng)


@pytest.mark.parametrize(
    "units, params", [((219, 214, 100), 69_590), ((266, 88, 33), 26_773)]
)
def test_mlp_has_the_papers_parameters(units, params):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Flatten(),
            L0Dense(300, activation="relu"),
            L0Dense(100, activation="relu"),
            L0Dense(10),
        ]
    )
    randomize(model, rng)
    for gate, size, count in zip(
        l0keras.gates_of(model), (784, 300, 100), units, strict=True
    ):
        set_open(gate, rng.permutation(size)[:count], rng)
    stripped = l0keras.strip(model)
    assert stripped.count_params() == params
    check(model, stripped, rng)


def test_unread_maps_go_although_their_gates_are_open():
    rng = np.random.default_rng(0)
    model = lenet5()
    set_open(l0keras.gates_of(model)[2], [3, 50 + 3, 7], rng)
    stripped = l0keras.strip(model)
    assert stripped.get_layer("conv2").filters == 2
    assert stripped.get_layer("dense1").kernel.shape == (3, 500)
    check(model, stripped, rng)


def test_no_selection_where_all_that_is_left_is_read():
    rng = np.random.default_rng(0)
    model = lenet5()
    positions = np.arange(16)[:, None] * 50 + np.array([4, 9])
    set_open(l0keras.gates_of(model)[2], positions.reshape(-1), rng)
    stripped = l0keras.strip(model)
    assert stripped.get_layer("conv2").filters == 2
    assert stripped.get_layer("dense1").kernel.shape == (32, 500)
    assert not [o for o in stripped.operations if "inputs" in o.name]
    check(model, stripped, rng)


def test_names_dtypes_and_flags_stay_and_the_model_is_not_touched():
    rng = np.random.default_rng(0)
    model = lenet5()
    model.get_layer("dense1").trainable = False
    model.compile("sgd", "mse")
    set_open(l0keras.gates_of(model)[3], [1, 2, 3], rng)
    weights = model.get_weights()
    config = model.get_config()
    state = random.getstate()
    stripped = l0keras.strip(model)
    assert random.getstate() == state
    assert stripped.name == "lenet5"
    assert stripped.inputs[0].name == "image"
    names = [layer.name for layer in stripped.layers]
    assert names == ["image"] + [layer.name for layer in model.layers]
    assert not stripped.get_layer("dense1").trainable
    assert stripped.get_layer("dense2").trainable
    assert not stripped.compiled
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    stripped.get_layer("conv1").kernel.assign_add(
        np.ones_like(stripped.get_layer("conv1").kernel)
    )
    np.testing.assert_array_equal(model.get_weights()[0], weights[0])


def test_strip_of_a_loaded_stripped_model(tmp_path):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [keras.Input((9,)), L0Dense(5), L0Dense(3, granularity="output")]
    )
    set_open(l0keras.gates_of(model)[0], [1, 4], rng)
    l0keras.strip(model).save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    again = l0keras.strip(loaded)
    assert again.count_params() == loaded.count_params() == 3 * 5 + 6 * 3
    check(model, again, rng)


def test_zeros_of_a_plain_model_are_cut():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(6, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("sigmoid"),
            layers.Conv2D(5, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    randomize(model, rng)
    first, second = model.layers[0], model.layers[3]
    kernel = to_numpy(first.kernel)
    kernel[..., [0, 3]] = 0.0
    first.kernel.assign(kernel)
    kernel = to_numpy(second.kernel)
    kernel[:, :, 1] = 0.0
    second.kernel.assign(kernel)
    stripped = l0keras.strip(model)
    assert stripped.layers[1].filters == 3
    check(model, stripped, rng)


def constant_chain(padding, use_bias=True):
    """A closed map that BatchNorm and sigmoid turn into a constant."""
    model = keras.Sequential(
        [
            keras.Input((7, 7, 2)),
            L0Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.Activation("sigmoid"),
            layers.Conv2D(
                3, 3, padding=padding, use_bias=use_bias, name="reader"
            ),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    rng = np.random.default_rng(0)
    randomize(model, rng)
    set_open(l0keras.gates_of(model)[0], [0, 2], rng)
    return model, rng


@pytest.mark.parametrize("use_bias", [True, False])
def test_constants_go_into_the_bias_of_a_valid_convolution(use_bias):
    model, rng = constant_chain("valid", use_bias)
    stripped = l0keras.strip(model)
    assert stripped.get_layer("reader").kernel.shape == (3, 3, 2, 3)
    assert stripped.get_layer("reader").use_bias
    check(model, stripped, rng)


def test_one_constant_stays_in_front_of_padded_borders():
    model, rng = constant_chain("same")
    stripped = l0keras.strip(model)
    assert stripped.get_layer("reader").kernel.shape == (3, 3, 3, 3)
    check(model, stripped, rng)
    kept = l0keras.report(model, stripped).kept
    assert [item["layer"] for item in kept] == ["reader"]
    assert "padded borders" in kept[0]["reason"]


@pytest.mark.parametrize(
    "after, scaling_left",
    [
        ([layers.Dense(2, name="reader")], 0),
        ([layers.ReLU(), layers.Dropout(0.5), layers.Dense(2)], 0),
        ([layers.Softmax()], 1),
        ([layers.Activation("tanh"), layers.Dense(2)], 1),
    ],
)
def test_gates_behind_a_sigmoid(after, scaling_left):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, activation="sigmoid", name="maker"),
            l0keras.HardConcreteGate(name="gate"),
            *after,
        ]
    )
    set_open(l0keras.gates_of(model)[0], [0, 2, 5], rng)
    stripped = l0keras.strip(model)
    check(model, stripped, rng)
    scalings = [
        layer
        for layer in stripped.layers
        if isinstance(layer, layers.Rescaling)
    ]
    assert len(scalings) == scaling_left
    softmax = isinstance(after[-1], layers.Softmax)
    assert stripped.layers[1].units == (6 if softmax else 3)


def test_gates_go_back_through_relu_pooling_and_batch_norm():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(5, 3, name="conv"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            l0keras.HardConcreteGate(),
            layers.Activation("exponential"),
            layers.GlobalAveragePooling2D(),
        ]
    )
    randomize(model, rng)
    set_open(l0keras.gates_of(model)[0], [1, 2], rng)
    stripped = l0keras.strip(model)
    check(model, stripped, rng)
    assert not any(isinstance(x, layers.Rescaling) for x in stripped.layers)
    # exp(0) = 1 is handed out, so nothing can go.
    assert stripped.get_layer("conv").filters == 5


@pytest.mark.parametrize("min_units", [1, 2])
def test_a_layer_that_would_lose_all_keeps_some_and_says_so(min_units, caplog):
    rng = np.random.default_rng(0)
    model = lenet5()
    randomize(model, rng)
    set_open(l0keras.gates_of(model)[1], [], rng)
    stripped = l0keras.strip(model, min_units=min_units)
    check(model, stripped, rng)
    assert stripped.get_layer("conv1").filters == min_units
    assert stripped.get_layer("conv2").filters == min_units
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    # The dense layer behind it only ever sees constants.
    lost = ["conv1", "conv2", "dense1"]
    assert said == [
        f"Layer '{name}' would lose all of its units; keeps {min_units}."
        for name in lost
    ]
    kept = l0keras.report(model, stripped).kept
    assert [item["layer"] for item in kept] == lost


def test_units_of_a_softmax_stay_together():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            L0Dense(6, activation="softmax", name="softmax"),
            L0Dense(4, name="reader"),
        ]
    )
    randomize(model, rng)
    set_open(l0keras.gates_of(model)[0], [1, 3], rng)
    set_open(l0keras.gates_of(model)[1], [0, 2], rng)
    stripped = l0keras.strip(model)
    assert stripped.get_layer("softmax").kernel.shape == (2, 6)
    assert stripped.get_layer("reader").kernel.shape == (2, 4)
    check(model, stripped, rng)
    (kept,) = l0keras.report(model, stripped).kept
    assert kept["layer"] == "softmax"
    assert "makes 4 units that nobody needs" in kept["reason"]


def test_grouped_convolutions_lose_whole_groups():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(6, 1, name="maker"),
            L0Conv2D(9, 3, groups=3, name="grouped"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2),
        ]
    )
    randomize(model, rng)
    set_open(l0keras.gates_of(model)[0], [0, 6, 7], rng)
    model.get_layer("grouped").bias.assign(np.zeros(9))
    stripped = l0keras.strip(model)
    grouped = stripped.get_layer("grouped")
    assert (grouped.groups, grouped.filters) == (2, 6)
    assert stripped.get_layer("maker").filters == 4
    check(model, stripped, rng)


@keras.saving.register_keras_serializable("tests")
class Reverse(layers.Layer):
    """Unknown to the library, and it does mix channels."""

    def build(self, input_shape):
        width = input_shape[-1]
        self.matrix = self.add_weight(shape=(width, width))

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.flip(self.matrix, axis=-1))


def test_an_unknown_layer_is_a_barrier_with_a_reason():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, name="before"),
            Reverse(name="reverse"),
            L0Dense(4, name="after"),
            layers.Dense(2),
        ]
    )
    set_open(l0keras.gates_of(model)[0], [0, 3], rng)
    stripped = l0keras.strip(model)
    check(model, stripped, rng)
    assert stripped.get_layer("before").units == 6
    assert stripped.get_layer("after").kernel.shape == (2, 4)
    kept = l0keras.report(model, stripped).kept
    assert kept == [
        {
            "layer": "reverse",
            "reason": "kept as it is: no rule for Reverse, and it cannot be "
            "opened: has variables of its own: most of its own weights are no "
            "kernels of layers",
        }
    ]


def test_merges_and_shared_layers_are_barriers():
    rng = np.random.default_rng(0)
    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    shared = L0Dense(5, activation="relu", name="shared")
    a, b = shared(inputs["a"]), shared(inputs["b"])
    x = layers.Add()([a, b * 2.0])
    x = layers.Concatenate()([x, L0Dense(3, name="side")(inputs["a"])])
    model = keras.Model(inputs, {"y": layers.Dense(2)(x), "x": x})
    set_open(l0keras.gates_of(model)[0], [1], rng)
    set_open(l0keras.gates_of(model)[1], [0, 2], rng)
    stripped = l0keras.strip(model)
    data = {name: rng.normal(size=(3, 4)).astype("float32") for name in inputs}
    expected, got = model(data), stripped(data)
    assert set(got) == {"x", "y"}
    for name in got:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-5)
    assert stripped.get_layer("side").kernel.shape == (2, 3)
    assert not l0keras.gates_of(stripped)


def test_nested_models_become_part_of_the_graph():
    rng = np.random.default_rng(0)
    inner = keras.Sequential(
        [keras.Input((6,)), L0Dense(5, name="dense"), layers.ReLU()],
        name="inner",
    )
    inputs = keras.Input((6,))
    x = L0Dense(6, granularity="output", name="dense")(inputs)
    model = keras.Model(inputs, L0Dense(2, name="last")(inner(x)))
    gates = l0keras.gates_of(model)
    for gate in gates:
        size = gate.log_alpha.shape[0]
        set_open(gate, rng.permutation(size)[:3], rng)
    stripped = l0keras.strip(model)
    check(model, stripped, rng)
    assert stripped.get_layer("inner_dense").units == 3
    assert stripped.get_layer("dense").units <= 3


def test_masks_reach_the_layers_behind_a_cut():
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 4))
    x = layers.Masking()(inputs)
    x = L0Dense(3, name="cut")(x)
    model = keras.Model(inputs, layers.SimpleRNN(2)(x))
    set_open(l0keras.gates_of(model)[0], [1, 2], rng)
    x = rng.normal(size=(3, 5, 4)).astype("float32")
    x[:, 3:] = 0.0
    np.testing.assert_allclose(
        outputs(l0keras.strip(model), x), outputs(model, x), atol=1e-5
    )


def test_layers_with_derived_state_are_copied_whole():
    rng = np.random.default_rng(0)
    normalization = layers.Normalization()
    normalization.adapt(rng.normal(3.0, 2.0, size=(50, 4)))
    model = keras.Sequential(
        [keras.Input((4,)), normalization, L0Dense(3), layers.Dense(2)]
    )
    set_open(l0keras.gates_of(model)[0], [1, 2], rng)
    check(model, l0keras.strip(model), rng)


def test_layers_called_in_training_mode_are_barriers():
    inputs = keras.Input((4,))
    x = layers.BatchNormalization()(inputs, training=True)
    model = keras.Model(inputs, layers.Dense(2)(x))
    check(model, l0keras.strip(model), np.random.default_rng(0))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_policies_stay(policy):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            L0Dense(5, activation="relu", dtype=policy),
            l0keras.HardConcreteGate(dtype=policy),
            layers.Activation("softmax", dtype=policy),
            L0Dense(3, dtype=policy),
        ]
    )
    for gate in l0keras.gates_of(model):
        set_open(gate, [0, 2, 3], rng)
    stripped = l0keras.strip(model)
    x = rng.normal(size=(4, 6)).astype("float32")
    np.testing.assert_allclose(
        outputs(stripped, x).astype("float32"),
        outputs(model, x).astype("float32"),
        atol=3e-2,
    )
    assert stripped.layers[-1].dtype_policy.name == policy
    assert stripped.layers[-1].kernel.dtype == "float32"


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    "model, text",
    [
        (Subclassed(), "functional API"),
        (keras.Sequential([layers.Dense(2)]), "must be built"),
        ("model", "must be a Keras model"),
    ],
)
def test_models_without_a_graph_are_refused(model, text):
    with pytest.raises(ValueError, match=text):
        l0keras.strip(model)


@pytest.mark.parametrize("min_units", [0, -1, 1.5])
def test_min_units_is_checked(min_units):
    with pytest.raises(ValueError, match="min_units"):
        l0keras.strip(lenet5(), min_units=min_units)


def test_weights_that_are_not_finite_are_refused_by_name():
    model = lenet5()
    kernel = to_numpy(model.get_layer("conv2").kernel)
    kernel[0, 0, 0, 0] = np.nan
    model.get_layer("conv2").kernel.assign(kernel)
    with pytest.raises(ValueError, match="'kernel' of layer 'conv2'"):
        l0keras.strip(model)
