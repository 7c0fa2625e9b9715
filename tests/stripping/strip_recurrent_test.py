"""Gated recurrent layers, as `sparsify` makes and `strip` cuts them."""

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks

UNITS = 6


def masks(rng, batch=4, steps=5):
    """One for each example, with steps left out at both ends and between."""
    mask = rng.random((batch, steps)) < 0.6
    mask[0] = True
    mask[1] = [False, False, True, True, False]
    return mask


def closed_at_random(model, inputs, rng, **arguments):
    """A gated copy with half of its gates closed; first all are open."""
    checks.spread(model, rng)
    gated = l0keras.sparsify(model, seed=1, **arguments)
    expected = checks.outputs_of(model, inputs)
    checks.same(checks.outputs_of(gated, inputs), expected)
    for gate in l0keras.gates_of(gated):
        closed = rng.permutation(gate.log_alpha.shape[0]) % 2 == 0
        others = rng.uniform(-1.5, 3.0, closed.shape)
        gate.log_alpha.assign(np.where(closed, -8.0, others))
    return gated


def gated_and_stripped(model, inputs, rng, tmp_path=None, **arguments):
    """Sparsifies, closes gates at random, strips, and compares each step.

    Returns:
        The gated model and the stripped one.
    """
    gated = closed_at_random(model, inputs, rng, **arguments)
    expected = checks.outputs_of(gated, inputs)
    stripped = l0keras.strip(gated)
    checks.same(checks.outputs_of(stripped, inputs), expected)
    assert not l0keras.gates_of(stripped)
    for one in (gated, stripped):
        if tmp_path is not None:
            one.save(tmp_path / "model.keras")
            one = keras.models.load_model(tmp_path / "model.keras")
            checks.same(checks.outputs_of(one, inputs), expected)
    return gated, stripped


@pytest.mark.parametrize("source", ["Masking", "Embedding", "argument"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_masked_units_are_cut(kind, source, tmp_path):
    rng = np.random.default_rng(0)
    mask = masks(rng)
    if source == "Embedding":
        given = keras.Input((5,), dtype="int32")
        x = layers.Embedding(4, 3, mask_zero=True)(given)
        inputs = [np.where(mask, rng.integers(1, 4, mask.shape), 0)]
    else:
        given = keras.Input((5, 3))
        x = given
        inputs = [rng.normal(size=(4, 5, 3)).astype("float32")]
    call = {}
    if source == "Masking":
        x = layers.Masking()(x)
        inputs[0][~mask] = 0.0
    elif source == "argument":
        call["mask"] = keras.Input((5,), dtype="bool")
        given = [given, call["mask"]]
        inputs.append(mask)
    rnn = getattr(layers, kind)
    x = rnn(UNITS, return_sequences=True, name="first")(x, **call)
    if source == "argument":
        call["mask"] = x._keras_mask
    x = rnn(UNITS, name="second")(x, **call)
    model = keras.Model(given, layers.Dense(2)(x))
    _, stripped = gated_and_stripped(model, inputs, rng, tmp_path)
    for name in ("first", "second"):
        assert type(stripped.get_layer(name)) is rnn
        assert stripped.get_layer(name).units == UNITS // 2
    # The scale of open gates is in the weights of those that read them.
    kinds = {type(layer) for layer in stripped.layers}
    assert layers.Rescaling not in kinds
    assert l0keras.count_macs(stripped) < l0keras.count_macs(model)


@pytest.mark.parametrize(
    "kind, mode, masked",
    [
        ("LSTM", "concat", True),
        ("LSTM", "sum", True),
        ("GRU", "concat", False),
        ("GRU", "ave", True),
        ("SimpleRNN", "mul", False),
        ("SimpleRNN", None, False),
    ],
)
def test_both_directions_are_cut(kind, mode, masked, tmp_path):
    rng = np.random.default_rng(1)
    given, mask = keras.Input((5, 3)), keras.Input((5,), dtype="bool")
    call = {"mask": mask} if masked else {}
    rnn = getattr(layers, kind)
    x = layers.Bidirectional(
        rnn(UNITS, return_sequences=True), merge_mode=mode, name="first"
    )(given, **call)
    if mode is None:
        x = layers.Add()(x)
    x = layers.Bidirectional(rnn(UNITS), name="second")(x, **call)
    model = keras.Model([given, mask], layers.Dense(2)(x))
    inputs = [rng.normal(size=(4, 5, 3)).astype("float32"), masks(rng)]
    gated, stripped = gated_and_stripped(model, inputs, rng, tmp_path)
    assert len(l0keras.gates_of(gated)) == 4
    second = stripped.get_layer("second")
    assert type(second) is layers.Bidirectional
    assert second.forward_layer.units == UNITS // 2
    first = stripped.get_layer("first").backward_layer
    assert type(first) is rnn
    assert first.units < UNITS


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_a_cell_is_gated_as_its_layer_is(kind):
    rng = np.random.default_rng(0)
    cell = getattr(layers, f"{kind}Cell")(UNITS, activation="relu")
    rnn = layers.RNN(cell, return_sequences=True, go_backwards=True, name="rnn")
    model = keras.Sequential([keras.Input((5, 3)), rnn, layers.Dense(2)])
    inputs = [rng.normal(size=(4, 5, 3)).astype("float32")]
    _, stripped = gated_and_stripped(model, inputs, rng)
    assert type(stripped.get_layer("rnn")) is getattr(layers, kind)
    assert stripped.get_layer("rnn").units == UNITS // 2
    assert l0keras.count_macs(stripped) < l0keras.count_macs(model)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_states_of_gated_layers(kind, tmp_path):
    """An encoder of both directions, and a decoder that has their states."""
    rng = np.random.default_rng(0)
    rnn = getattr(layers, kind)
    a, b = keras.Input((5, 3)), keras.Input((4, 2))
    both = layers.Bidirectional(rnn(UNITS, return_state=True), name="encoder")
    x, *states = both(a)
    half = len(states) // 2
    states = [
        layers.Concatenate()(pair)
        for pair in zip(states[:half], states[half:], strict=True)
    ]
    decoder = rnn(
        2 * UNITS, return_sequences=True, return_state=True, name="decoder"
    )
    y, last, *_ = decoder(b, initial_state=states)
    model = keras.Model([a, b], [layers.Dense(2)(z) for z in (x, y, last)])
    inputs = [
        rng.normal(size=(4, *tensor.shape[1:])).astype("float32")
        for tensor in (a, b)
    ]
    _, stripped = gated_and_stripped(model, inputs, rng, tmp_path)
    assert stripped.get_layer("decoder").units == UNITS


def test_stateful_layers_are_gated():
    rng = np.random.default_rng(0)
    inputs = keras.Input(batch_shape=(4, 5, 3))
    x = layers.LSTM(UNITS, stateful=True, name="rnn")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x))
    data = [rng.normal(size=(4, 5, 3)).astype("float32")]
    gated = closed_at_random(model, data, rng)
    stripped = l0keras.strip(gated)
    assert stripped.get_layer("rnn").units == UNITS // 2
    gated.get_layer("rnn").reset_state()
    for _ in range(3):
        checks.same(
            checks.outputs_of(stripped, data), checks.outputs_of(gated, data)
        )


@pytest.mark.parametrize("both", [False, True])
def test_a_gated_layer_inside_time_distributed(both):
    rng = np.random.default_rng(0)
    inner = layers.GRU(UNITS)
    if both:
        inner = layers.Bidirectional(inner)
    model = keras.Sequential(
        [
            keras.Input((2, 5, 3)),
            layers.TimeDistributed(inner, name="each"),
            layers.Dense(2),
        ]
    )
    inputs = [rng.normal(size=(4, 2, 5, 3)).astype("float32")]
    _, stripped = gated_and_stripped(model, inputs, rng)
    inner = stripped.get_layer("each").layer
    inner = inner.forward_layer if both else inner
    assert type(inner) is layers.GRU
    assert inner.units == UNITS // 2


def test_units_that_an_activation_mixes_are_not_zeroed():
    rng = np.random.default_rng(0)
    rnn = layers.LSTM(UNITS, recurrent_activation="softmax")
    model = keras.Sequential([keras.Input((5, 3)), rnn, layers.Dense(2)])
    gated_and_stripped(
        model, [rng.normal(size=(4, 5, 3)).astype("float32")], rng
    )


def test_units_that_have_to_stay_get_no_gates():
    inputs = keras.Input((5, 3))
    x = layers.GRU(UNITS, return_sequences=True)(inputs)
    model = keras.Model(inputs, layers.GRU(2)(layers.LayerNormalization()(x)))
    assert not l0keras.gates_of(l0keras.sparsify(model))


def test_states_that_start_a_decoder_keep_the_scale_of_their_gates():
    """As many units as the decoder has inputs, whose kernel is not scaled."""
    rng = np.random.default_rng(0)
    a, b = keras.Input((5, 3)), keras.Input((4, UNITS))
    _, state = layers.GRU(UNITS, return_state=True)(a)
    x = layers.GRU(UNITS)(b, initial_state=state)
    model = keras.Model([a, b], layers.Dense(2)(x))
    inputs = [
        rng.normal(size=(4, *tensor.shape[1:])).astype("float32")
        for tensor in (a, b)
    ]
    gated_and_stripped(model, inputs, rng)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_filters_of_recurrent_convolutions_are_cut(rank):
    rng = np.random.default_rng(0)
    kind = getattr(layers, f"ConvLSTM{rank}D")
    sizes = (3,) * rank
    model = keras.Sequential(
        [
            keras.Input((2, *sizes, 2)),
            kind(UNITS, 2, padding="same", return_sequences=True, name="one"),
            kind(UNITS, 2, name="two"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    inputs = [rng.normal(size=(4, 2, *sizes, 2)).astype("float32")]
    _, stripped = gated_and_stripped(model, inputs, rng)
    for name in ("one", "two"):
        assert type(stripped.get_layer(name)) is kind
        assert stripped.get_layer(name).filters == UNITS // 2
    assert l0keras.count_macs(stripped) < l0keras.count_macs(model) / 2


def test_channels_that_others_add_to_have_gates_from_outside():
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 3))
    x = layers.Dense(UNITS, name="before")(inputs)
    x = layers.Add()([x, layers.LSTM(UNITS, return_sequences=True)(x)])
    x = layers.GRU(UNITS, name="after")(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    data = [rng.normal(size=(4, 5, 3)).astype("float32")]
    gated, stripped = gated_and_stripped(model, data, rng)
    assert len(l0keras.gates_of(gated)) == 2
    assert stripped.get_layer("after").cell.kernel.shape[0] == UNITS // 2


def test_the_architecture_has_both_directions():
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.Bidirectional(layers.LSTM(3), name="both"),
            layers.Dense(2),
        ]
    )
    gated = l0keras.sparsify(model)
    both = gated.get_layer("both")
    both.forward_layer.gate.log_alpha.assign([5.0, -5.0, 5.0])
    both.backward_layer.gate.log_alpha.assign([-5.0, -5.0, 5.0])
    report = l0keras.report(gated, l0keras.strip(gated))
    assert report.architecture == "2-1"


def test_a_frozen_cell_stays_frozen():
    rnn = layers.Bidirectional(layers.LSTM(3), name="both")
    model = keras.Sequential([keras.Input((5, 3)), rnn, layers.Dense(2)])
    rnn.backward_layer.cell.trainable = False
    gated = l0keras.sparsify(model)
    both = gated.get_layer("both")
    assert len(both.forward_layer.trainable_variables) == 4
    assert len(both.backward_layer.trainable_variables) == 1


@pytest.mark.parametrize("sample_per", ["batch", "example"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN", "ConvLSTM1D"])
def test_an_encoder_and_its_decoder_share_their_gates(
    kind, sample_per, tmp_path
):
    rng = np.random.default_rng(0)
    sizes = (4,) if kind == "ConvLSTM1D" else ()
    window = {"kernel_size": 2, "padding": "same"} if sizes else {}
    rnn = getattr(layers, kind)
    a, b = keras.Input((5, *sizes, 3)), keras.Input((4, *sizes, 2))
    encoder = rnn(UNITS, return_state=True, name="encoder", **window)
    decoder = rnn(UNITS, return_sequences=True, name="decoder", **window)
    y = decoder(b, initial_state=encoder(a)[1:])
    model = keras.Model([a, b], layers.Dense(2)(y))
    inputs = [
        rng.normal(size=(4, *tensor.shape[1:])).astype("float32")
        for tensor in (a, b)
    ]
    gated, stripped = gated_and_stripped(
        model, inputs, rng, tmp_path, sample_per=sample_per
    )
    (gate,) = l0keras.gates_of(gated)
    for name in ("encoder", "decoder"):
        kernel = stripped.get_layer(name).cell.recurrent_kernel
        assert kernel.shape[-2] == UNITS // 2
    assert l0keras.report(gated, stripped).architecture == "3"
    # They train, and a closed unit is closed in both.
    gated.compile("sgd", "mse")
    y = np.zeros((4, *gated.output_shape[1:]), "float32")
    before = keras.ops.convert_to_numpy(gate.log_alpha)
    gated.train_on_batch(inputs, y)
    assert np.any(before != keras.ops.convert_to_numpy(gate.log_alpha))
