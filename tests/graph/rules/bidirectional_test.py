import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks

UNITS = 5
GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}


def model_of(rnn, rng, merge_mode="concat", backward=None, shape=(6, 4)):
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Dense(5, name="before", activation="relu"),
            layers.Bidirectional(
                rnn, merge_mode=merge_mode, backward_layer=backward, name="both"
            ),
            layers.Dense(3, name="after"),
        ]
    )
    checks.spread(model, rng)
    before = checks.weights_of(model.get_layer("before"))
    before["kernel"][:, [0, 3]] = 0.0
    before["bias"][[0, 3]] = [-1.0, 0.7]
    checks.assign(model.get_layer("before"), before)
    return model


def unread(layer, units):
    """Makes the states of some units unread by all others."""
    arrays = checks.weights_of(layer)
    kernel = arrays["recurrent_kernel"]
    rows = kernel.reshape(len(kernel), -1, len(kernel))
    others = [unit for unit in range(len(kernel)) if unit not in units]
    rows[np.ix_(units, range(rows.shape[1]), others)] = 0.0
    checks.assign(layer, arrays)


def shut_rows(dense, rows):
    kernel = keras.ops.convert_to_numpy(dense.kernel).copy()
    kernel[rows] = 0.0
    dense.kernel.assign(kernel)


def units_of(model):
    both = model.get_layer("both")
    return both.forward_layer.units, both.backward_layer.units


@pytest.mark.parametrize(
    "flags", [{}, {"return_sequences": True}, {"use_bias": False}], ids=str
)
@pytest.mark.parametrize("kind", list(GATES))
def test_each_half_has_units_of_its_own(kind, flags, tmp_path):
    """Two units of the second would do, but Keras wants as many of both."""
    rng = np.random.default_rng(0)
    model = model_of(getattr(layers, kind)(UNITS, **flags), rng)
    both = model.get_layer("both")
    unread(both.forward_layer, [1, 2])
    unread(both.backward_layer, [0])
    unread(both.backward_layer, [3])
    unread(both.backward_layer, [4])
    shut_rows(model.get_layer("after"), [1, 2, 5, 5 + 3, 5 + 4])
    stripped = checks.check(model, rng, tmp_path)
    assert units_of(stripped) == (3, 3)
    cell = stripped.get_layer("both").backward_layer.cell
    assert cell.kernel.shape == (3, 3 * GATES[kind])
    assert stripped.get_layer("after").kernel.shape == (5, 3)


@pytest.mark.parametrize("mode", ["sum", "mul", "ave"])
@pytest.mark.parametrize("kind", list(GATES))
def test_halves_that_are_merged_are_cut_alike(kind, mode):
    """Unit 4 may not go: the backward layer's unit 0 needs it."""
    rng = np.random.default_rng(0)
    rnn = getattr(layers, kind)(UNITS, return_sequences=True)
    model = model_of(rnn, rng, mode)
    both = model.get_layer("both")
    unread(both.forward_layer, [1, 2, 4])
    unread(both.forward_layer, [1, 2])
    unread(both.backward_layer, [1, 2])
    shut_rows(model.get_layer("after"), [1, 2, 4])
    stripped = checks.check(model, rng)
    assert units_of(stripped) == (3, 3)


def zero_units(layer, units):
    arrays = checks.weights_of(layer)
    for array in arrays.values():
        array.reshape(-1, UNITS)[:, units] = 0.0
    checks.assign(layer, arrays)


@pytest.mark.parametrize(
    "mode, zeros",
    [
        ("concat", [1, 2, 5 + 2, 5 + 3]),
        ("sum", [2]),
        ("ave", [2]),
        ("mul", [1, 2, 3]),
    ],
)
def test_zeros(mode, zeros):
    rng = np.random.default_rng(0)
    model = model_of(layers.LSTM(UNITS), rng, mode)
    both = model.get_layer("both")
    zero_units(both.forward_layer, [1, 2])
    zero_units(both.backward_layer, [2, 3])
    constants = checks.constants_of(model).nodes[1].output.constants
    np.testing.assert_array_equal(np.flatnonzero(constants == 0), zeros)
    stripped = checks.check(model, rng)
    assert (
        units_of(stripped)
        == {
            "concat": (3, 3),
            "sum": (4, 4),
            "ave": (4, 4),
            "mul": (4, 4),
        }[mode]
    )


@pytest.mark.parametrize("dead", [0, 1])
def test_a_half_that_nobody_reads_keeps_as_many(dead):
    rng = np.random.default_rng(0)
    model = model_of(layers.GRU(UNITS), rng)
    both = model.get_layer("both")
    for layer in (both.forward_layer, both.backward_layer):
        for unit in (1, 3, 4):
            unread(layer, [unit])
    rows = [*(np.arange(UNITS) + dead * UNITS), 1, 3, 5 + 1, 5 + 3]
    shut_rows(model.get_layer("after"), rows)
    stripped = checks.check(model, rng)
    assert units_of(stripped) == (3, 3)
    assert stripped.get_layer("after").kernel.shape == (3, 3)


@pytest.mark.parametrize("sequences", [False, True])
def test_layers_of_different_types(sequences, tmp_path):
    rng = np.random.default_rng(0)
    flags = {"return_sequences": sequences}
    backward = layers.GRU(UNITS, go_backwards=True, name="other", **flags)
    model = model_of(layers.LSTM(UNITS, **flags), rng, backward=backward)
    both = model.get_layer("both")
    unread(both.forward_layer, [1])
    unread(both.backward_layer, [2])
    shut_rows(model.get_layer("after"), [1, UNITS + 2])
    stripped = checks.check(model, rng, tmp_path)
    assert units_of(stripped) == (4, 4)


@pytest.mark.parametrize("sequences", [False, True])
def test_with_a_mask(sequences):
    rng = np.random.default_rng(0)
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(4, 5, mask_zero=True, name="embedding")(inputs)
    rnn = layers.LSTM(UNITS, return_sequences=sequences)
    x = layers.Bidirectional(rnn, name="both")(x)
    model = keras.Model(inputs, layers.Dense(3, name="after")(x))
    checks.spread(model, rng)
    unread(model.get_layer("both").forward_layer, [1])
    zero_units(model.get_layer("both").backward_layer, [2])
    shut_rows(model.get_layer("after"), [1])
    assert units_of(checks.check(model, rng)) == (4, 4)


def test_a_model_that_was_loaded(tmp_path):
    """Keras then builds the two layers in other places."""
    rng = np.random.default_rng(0)
    model = model_of(layers.LSTM(UNITS), rng)
    unread(model.get_layer("both").forward_layer, [1])
    unread(model.get_layer("both").backward_layer, [2])
    shut_rows(model.get_layer("after"), [1, 5 + 2])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert units_of(checks.check(loaded, rng)) == (4, 4)


def test_the_scale_of_a_gate_goes_into_both_kernels():
    rng = np.random.default_rng(0)
    gate = l0keras.HardConcreteGate(axis=-1)
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.Dense(5, activation="tanh"),
            gate,
            layers.Bidirectional(layers.GRU(UNITS), name="both"),
        ]
    )
    checks.spread(model, rng)
    gate.log_alpha.assign([1.0, -5.0, 0.5, 0.1, -5.0])
    stripped = checks.check(model, rng)
    assert len(stripped.layers) == 3


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", None])
@pytest.mark.parametrize("kind", list(GATES))
def test_states_are_cut_with_their_halves(kind, mode, tmp_path):
    """Unit 1 of the first layer and 2 of the second are read nowhere."""
    rng = np.random.default_rng(0)
    inputs, given = keras.Input((6, 4)), keras.Input((UNITS,))
    rnn = getattr(layers, kind)(UNITS, return_state=True)
    both = layers.Bidirectional(rnn, merge_mode=mode, name="both")
    count = 2 if kind == "LSTM" else 1
    outputs = both(inputs, initial_state=[given] * 2 * count)
    x, states = outputs[: -2 * count], outputs[-2 * count :]
    states = layers.Concatenate()([states[0], states[count]])
    parts = [layers.Dense(3)(part) for part in (*x, states)]
    model = keras.Model([inputs, given], parts)
    checks.spread(model, rng)
    unread(both.forward_layer, [1])
    unread(both.backward_layer, [2])
    gone = [1] if mode == "concat" else [1, 2]
    for layer, part in zip(model.layers[-len(parts) :], parts, strict=True):
        rows = [1, 5 + 2] if mode == "concat" else [1, 2]
        shut_rows(layer, rows)
    shut_rows(model.layers[-1], [1, 5 + 2])
    if mode != "concat":
        shut_rows(model.layers[-1], [2, 5 + 1])
        for half in (both.forward_layer, both.backward_layer):
            unread(half, [1])
            unread(half, [2])
    stripped = checks.check(model, rng, tmp_path)
    assert units_of(stripped) == (UNITS - len(gone),) * 2
