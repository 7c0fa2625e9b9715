import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks

UNITS = 6
GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}
# The gate that makes what is added to the state.
CANDIDATE = {"SimpleRNN": 0, "LSTM": 2, "GRU": 2}
# GRUs in both conventions.
KINDS = [
    ("SimpleRNN", {}),
    ("LSTM", {}),
    ("GRU", {}),
    ("GRU", {"reset_after": False}),
]
FLAGS = [
    {},
    {"return_sequences": True},
    {"go_backwards": True, "return_sequences": True},
    {"use_bias": False},
    {"unroll": True},
    {"activation": "relu"},
    {"dropout": 0.2, "recurrent_dropout": 0.3},
]


def by_unit(array):
    """A view of a kernel or bias as (..., gates, units)."""
    return array.reshape(*array.shape[:-1], -1, UNITS)


def unread(layer, units, readers):
    """Makes the recurrent kernel's rows of some units zero for `readers`."""
    arrays = checks.weights_of(layer)
    rows = by_unit(arrays["recurrent_kernel"])
    rows[np.ix_(units, range(rows.shape[1]), readers)] = 0.0
    checks.assign(layer, arrays)


def model_of(layer, *rest, shape=(5, 4), rng=None):
    """A dense layer, a recurrent one and a dense one that reads it."""
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Dense(5, name="before", activation="relu"),
            layer,
            *rest,
            layers.Dense(3, name="after"),
        ]
    )
    checks.spread(model, rng)
    return model


def set_kernel(layer, function):
    kernel = keras.ops.convert_to_numpy(layer.kernel).copy()
    function(kernel)
    layer.kernel.assign(kernel)


def shut_columns(layer, columns, bias):
    def shut(kernel):
        kernel[:, columns] = 0.0

    set_kernel(layer, shut)
    biases = keras.ops.convert_to_numpy(layer.bias).copy()
    biases[columns] = bias
    layer.bias.assign(biases)


def shut_rows(layer, rows):
    def shut(kernel):
        kernel[rows] = 0.0

    set_kernel(layer, shut)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("kind, more", KINDS, ids=str)
def test_units_go_that_nobody_needs(kind, more, flags, tmp_path):
    """Units 1 and 5 are read by nobody, 4 by units 1, 2 and 5 alone.

    Inputs 0 and 3 are constants, of which 3 is not zero.
    """
    rng = np.random.default_rng(0)
    rnn = getattr(layers, kind)(UNITS, name="rnn", **more, **flags)
    model = model_of(rnn, rng=rng)
    shut_columns(model.get_layer("before"), [0, 3], [-1.0, 0.7])
    shut_rows(model.get_layer("after"), [1, 4, 5])
    unread(rnn, [1, 5], [0, 2, 3, 4])
    unread(rnn, [4], [0, 3])
    stripped = checks.check(model, rng, tmp_path)
    gates = GATES[kind]
    cell = stripped.get_layer("rnn").cell
    assert cell.kernel.shape == (3, 4 * gates)
    assert cell.recurrent_kernel.shape == (4, 4 * gates)
    assert stripped.get_layer("after").kernel.shape == (3, 3)
    assert stripped.get_layer("before").kernel.shape == (4, 3)
    assert list(checks.reasons(model)) == ["rnn"]
    assert "makes 1 units that nobody needs" in checks.reasons(model)["rnn"]


@pytest.mark.parametrize("kind, more", KINDS, ids=str)
def test_units_that_stay_zero_go(kind, more):
    """They go although others would read them, and although these stay."""
    rng = np.random.default_rng(0)
    rnn = getattr(layers, kind)(
        UNITS, name="rnn", return_sequences=True, **more
    )
    model = model_of(rnn, rng=rng)
    arrays = checks.weights_of(rnn)
    gate = CANDIDATE[kind]
    for unit in (1, 4):
        by_unit(arrays["kernel"])[:, gate, unit] = 0.0
        by_unit(arrays["bias"])[..., gate, unit] = 0.0
        # Zero units may stir each other.
        others = [other for other in range(UNITS) if other not in (1, 4)]
        by_unit(arrays["recurrent_kernel"])[others, gate, unit] = 0.0
    checks.assign(rnn, arrays)
    nan = np.nan
    np.testing.assert_array_equal(
        checks.constants_of(model).nodes[1].output.constants,
        [nan, 0, nan, nan, 0, nan],
    )
    stripped = checks.check(model, rng)
    assert stripped.get_layer("rnn").units == 4
    assert stripped.get_layer("after").kernel.shape == (4, 3)


@pytest.mark.parametrize("touch", ["kernel", "bias", "recurrent_kernel"])
@pytest.mark.parametrize("kind, more", KINDS, ids=str)
def test_units_that_anything_stirs_are_not_zero(kind, more, touch):
    rng = np.random.default_rng(0)
    rnn = getattr(layers, kind)(UNITS, name="rnn", **more)
    model = model_of(rnn, rng=rng)
    arrays = checks.weights_of(rnn)
    for name, array in arrays.items():
        column = by_unit(array)[..., CANDIDATE[kind], 1]
        column[...] = 0.0
        if name == touch:
            column[(0,) * column.ndim] = 0.1
    checks.assign(rnn, arrays)
    assert np.all(
        np.isnan(checks.constants_of(model).nodes[1].output.constants)
    )
    assert checks.check(model, rng).get_layer("rnn").units == UNITS


def test_either_bias_of_a_gru_stirs():
    rng = np.random.default_rng(0)
    rnn = layers.GRU(UNITS, name="rnn")
    model = model_of(rnn, rng=rng)
    arrays = checks.weights_of(rnn)
    for array in arrays.values():
        by_unit(array)[..., 2, 1] = 0.0
    by_unit(arrays["bias"])[1, 2, 1] = 0.1
    checks.assign(rnn, arrays)
    assert np.all(
        np.isnan(checks.constants_of(model).nodes[1].output.constants)
    )
    checks.check(model, rng)


def test_an_activation_that_is_not_zero_at_zero():
    rng = np.random.default_rng(0)
    rnn = layers.LSTM(UNITS, name="rnn", activation="sigmoid")
    model = model_of(rnn, rng=rng)
    checks.assign(
        rnn, {k: 0 * array for k, array in checks.weights_of(rnn).items()}
    )
    assert np.all(
        np.isnan(checks.constants_of(model).nodes[1].output.constants)
    )
    checks.check(model, rng)


def test_a_softmax_needs_all_units():
    rng = np.random.default_rng(0)
    rnn = layers.GRU(UNITS, name="rnn", recurrent_activation="softmax")
    model = model_of(rnn, rng=rng)
    shut_rows(model.get_layer("after"), [1, 4])
    unread(rnn, [1, 4], [0, 2, 3, 5])
    assert checks.check(model, rng).get_layer("rnn").units == UNITS


@pytest.mark.parametrize("kind, more", KINDS, ids=str)
@pytest.mark.parametrize("sequences", [False, True])
def test_with_a_mask(kind, more, sequences):
    rng = np.random.default_rng(0)
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(4, 5, mask_zero=True, name="embedding")(inputs)
    rnn = getattr(layers, kind)(
        UNITS, name="rnn", return_sequences=sequences, **more
    )
    model = keras.Model(inputs, layers.Dense(3, name="after")(rnn(x)))
    checks.spread(model, rng)
    table = keras.ops.convert_to_numpy(
        model.get_layer("embedding").embeddings
    ).copy()
    table[:, 2] = 0.4
    model.get_layer("embedding").embeddings.assign(table)
    shut_rows(model.get_layer("after"), [1, 5])
    unread(rnn, [1, 5], [0, 2, 3, 4])
    arrays = checks.weights_of(rnn)
    for array in arrays.values():
        by_unit(array)[..., 3] = 0.0
    checks.assign(rnn, arrays)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("rnn").units == 3
    assert stripped.get_layer("embedding").output_dim == 4


def test_no_selection_in_front_of_a_masked_input():
    rng = np.random.default_rng(0)
    inputs = keras.Input((7, 4))
    x = layers.Masking()(inputs)
    rnn = layers.LSTM(UNITS, name="rnn")
    model = keras.Model(inputs, rnn(x))
    checks.spread(model, rng)
    shut_rows(rnn.cell, [0, 2])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("rnn").cell.kernel.shape == (4, 4 * UNITS)


def test_a_selection_in_front():
    rng = np.random.default_rng(0)
    rnn = layers.LSTM(UNITS, name="rnn")
    model = keras.Sequential([keras.Input((None, 4)), rnn])
    checks.spread(model, rng)
    shut_rows(rnn.cell, [0, 2])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("rnn").cell.kernel.shape == (2, 4 * UNITS)


def test_stacked():
    """The last layer's unread units close units of the first."""
    rng = np.random.default_rng(0)
    first = layers.LSTM(UNITS, name="first", return_sequences=True)
    second = layers.GRU(UNITS, name="second")
    model = model_of(first, layers.Dropout(0.2), second, rng=rng)
    shut_rows(model.get_layer("after"), [0, 1])
    unread(second, [0, 1], [2, 3, 4, 5])
    shut_rows(second.cell, [2, 3])
    unread(first, [2, 3], [0, 1, 4, 5])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("first").units == 4
    assert stripped.get_layer("second").units == 4


def test_shared_calls_agree():
    rng = np.random.default_rng(0)
    a, b = keras.Input((5, 4)), keras.Input((6, 4))
    rnn = layers.GRU(UNITS, name="rnn")
    heads = [layers.Dense(2, name=f"head{i}") for i in range(2)]
    model = keras.Model([a, b], [heads[0](rnn(a)), heads[1](rnn(b))])
    checks.spread(model, rng)
    shut_rows(heads[0], [0, 1, 2])
    shut_rows(heads[1], [0, 1, 3])
    unread(rnn, [0, 1], [2, 3, 4, 5])
    stripped = l0keras.strip(model)
    assert stripped.get_layer("rnn").units == 4
    x = [rng.normal(size=(3, n, 4)).astype("float32") for n in (5, 6)]
    for found, expected in zip(stripped(x), model(x)):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind, more", KINDS, ids=str)
def test_the_scale_of_a_gate_goes_into_the_kernel(kind, more):
    rng = np.random.default_rng(0)
    gate = l0keras.HardConcreteGate(axis=-1)
    rnn = getattr(layers, kind)(UNITS, name="rnn", **more)
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.Dense(5, name="before", activation="tanh"),
            gate,
            rnn,
        ]
    )
    checks.spread(model, rng)
    gate.log_alpha.assign([1.0, -5.0, 0.5, 0.1, -5.0])
    stripped = checks.check(model, rng)
    assert len(stripped.layers) == 3
    assert stripped.get_layer("rnn").cell.kernel.shape[0] == 3


def test_all_units_unread_keeps_one():
    rng = np.random.default_rng(0)
    rnn = layers.LSTM(UNITS, name="rnn")
    inputs = keras.Input((5, 4))
    x = layers.Dense(3, name="after")(rnn(inputs))
    model = keras.Model(inputs, layers.Softmax()(x))
    checks.spread(model, rng)
    shut_rows(model.get_layer("after"), range(UNITS))
    arrays = checks.weights_of(rnn)
    arrays["recurrent_kernel"][:] = 0.0
    checks.assign(rnn, arrays)
    stripped = checks.check(model, rng)
    assert stripped.count_params() < model.count_params()


@pytest.mark.parametrize("needed", [False, True])
@pytest.mark.parametrize("kind, more", KINDS, ids=str)
def test_states_go_from_an_encoder_to_a_decoder(kind, more, needed, tmp_path):
    """The decoder does without units 1 and 5, the encoder may need 5."""
    rng = np.random.default_rng(0)
    rnn = getattr(layers, kind)
    a, b = keras.Input((5, 4)), keras.Input((3, 2))
    _, *states = rnn(UNITS, name="encoder", return_state=True, **more)(a)
    x = rnn(UNITS, name="decoder", return_sequences=True, **more)(
        b, initial_state=states
    )
    model = keras.Model([a, b], layers.Dense(3, name="after")(x))
    checks.spread(model, rng)
    others = [0, 2, 3, 4]
    shut_rows(model.get_layer("after"), [1, 5])
    unread(model.get_layer("decoder"), [1, 5], others)
    encoder = model.get_layer("encoder")
    if needed:
        unread(encoder, [1], [*others, 5])
    else:
        unread(encoder, [1, 5], others)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("decoder").units == 4
    assert stripped.get_layer("encoder").units == (5 if needed else 4)


@pytest.mark.parametrize("kind, more", KINDS, ids=str)
def test_all_that_a_layer_gives_out_is_read(kind, more):
    """Units 1 and 5 are read nowhere, 2 in a state and 3 in the sequence."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 4))
    rnn = getattr(layers, kind)(
        UNITS, name="rnn", return_sequences=True, return_state=True, **more
    )
    x, *states = rnn(inputs)
    x = layers.Flatten()(layers.Dense(3, name="after")(x))
    last = layers.Dense(3, name="last")(states[-1])
    model = keras.Model(inputs, [x, last])
    checks.spread(model, rng)
    shut_rows(model.get_layer("after"), [1, 2, 5])
    shut_rows(model.get_layer("last"), [1, 3, 5])
    unread(rnn, [1, 2, 3, 5], range(UNITS))
    assert checks.check(model, rng).get_layer("rnn").units == 4


def test_units_that_start_from_something_are_not_zero():
    rng = np.random.default_rng(0)
    a, b = keras.Input((5, 4)), keras.Input((UNITS,))
    rnn = layers.GRU(UNITS, name="rnn")
    x = layers.Dense(3)(rnn(a, initial_state=b))
    model = keras.Model([a, b], x)
    checks.spread(model, rng)
    arrays = checks.weights_of(rnn)
    for array in arrays.values():
        by_unit(array)[..., 2, 1] = 0.0
    checks.assign(rnn, arrays)
    assert checks.check(model, rng).get_layer("rnn").units == UNITS


@pytest.mark.parametrize("kind, more", KINDS, ids=str)
def test_a_stateful_layer_remembers_what_is_left(kind, more):
    rng = np.random.default_rng(0)
    inputs = keras.Input(batch_shape=(3, 5, 4))
    rnn = getattr(layers, kind)(UNITS, name="rnn", stateful=True, **more)
    model = keras.Model(inputs, layers.Dense(3, name="after")(rnn(inputs)))
    checks.spread(model, rng)
    shut_rows(model.get_layer("after"), [1, 5])
    unread(rnn, [1, 5], [0, 2, 3, 4])
    stripped = l0keras.strip(model)
    assert stripped.get_layer("rnn").units == 4
    for _ in range(3):
        x = checks.inputs_for(model, rng)
        checks.same(checks.outputs_of(stripped, x), checks.outputs_of(model, x))


@pytest.mark.parametrize(
    "rnn, call, reason",
    [
        (layers.GRU(3), {"initial_state": np.ones((2, 3))}, "no tensors"),
        (layers.RNN([layers.GRUCell(3)]), {}, "StackedRNNCells"),
        (layers.RNN(layers.GRUCell(3, dtype="float64")), {}, "dtype policy"),
    ],
)
def test_barriers(rnn, call, reason):
    a = keras.Input((5, 4), batch_size=2)
    rnn.name = "rnn"
    model = keras.Model(a, rnn(a, **call))
    assert reason in checks.reasons(model)["rnn"]


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_filters_of_a_recurrent_convolution(padding, tmp_path):
    """Filter 1 is read nowhere and 4 is 0; input 0 is 0, others constants.

    At the borders of same padding a bias cannot stand in for these, but one
    of them can for all.
    """
    rng = np.random.default_rng(0)
    rnn = layers.ConvLSTM2D(UNITS, 2, padding=padding, name="rnn")
    model = model_of(rnn, shape=(3, 4, 3, 4), rng=rng)
    shut_columns(model.get_layer("before"), [0, 2, 3], [-1.0, 0.4, 0.7])
    shut_rows(model.get_layer("after"), [1])
    arrays = checks.weights_of(rnn)
    others = [0, 2, 3, 4, 5]
    by_unit(arrays["recurrent_kernel"])[:, :, 1, :, others] = 0.0
    for array in arrays.values():
        by_unit(array)[..., 2, 4] = 0.0
    checks.assign(rnn, arrays)
    stripped = checks.check(model, rng, tmp_path)
    left = 3 if padding == "same" else 2
    cell = stripped.get_layer("rnn").cell
    assert cell.kernel.shape == (2, 2, left, 4 * 4)
    assert cell.recurrent_kernel.shape == (2, 2, 4, 4 * 4)


def test_states_of_a_recurrent_convolution():
    rng = np.random.default_rng(0)
    a, b = keras.Input((3, 4, 2)), keras.Input((2, 4, 2))
    arguments = {"filters": UNITS, "kernel_size": 2, "padding": "same"}
    first = layers.ConvLSTM1D(**arguments, return_state=True, name="first")
    second = layers.ConvLSTM1D(**arguments, name="second")
    x = second(b, initial_state=first(a)[1:])
    model = keras.Model([a, b], layers.Dense(3, name="after")(x))
    checks.spread(model, rng)
    shut_rows(model.get_layer("after"), [1])
    for layer in (first, second):
        arrays = checks.weights_of(layer)
        others = [0, 2, 3, 4, 5]
        by_unit(arrays["recurrent_kernel"])[:, 1, :, others] = 0.0
        checks.assign(layer, arrays)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("first").filters == UNITS - 1
    assert stripped.get_layer("second").filters == UNITS - 1
